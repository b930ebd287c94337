/**
 * Compares what the conformance guest printed on a target with what it prints
 * on bare QEMU. Lines are matched by test (`group.test`) and their order in it,
 * so that one test that lost lines does not make all that follow differ.
 */

/** Lines that may differ on a target, and why. */
export interface Exception {
  /** Regular expression; a difference is excused if the expected or the actual line matches. */
  readonly pattern: string;
  readonly reason: string;
  /** For the guest's `skip=`: tests that would end the target. */
  readonly skip?: string;
}

export interface Difference {
  /** The test that printed the line. */
  readonly test: string;
  /** Undefined where the target printed a line more. */
  readonly expected: string | undefined;
  /** Undefined where the target printed no such line. */
  readonly actual: string | undefined;
}

export interface Comparison {
  /** Lines that agree. */
  readonly same: number;
  readonly differences: readonly Difference[];
  readonly excused: readonly { readonly difference: Difference; readonly exception: Exception }[];
  /** Exceptions that excused nothing: to be removed from the list. One that leaves tests out cannot be told. */
  readonly unused: readonly Exception[];
}

/** The lines that count: commentary (`# ...`) and what a loader printed before the guest are left out. */
export function guestLines(output: string): string[] {
  return output
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => /^[\w.]+: /.test(line));
}

const testOf = (line: string): string => line.slice(0, line.indexOf(':'));

function byTest(lines: readonly string[]): Map<string, string[]> {
  const tests = new Map<string, string[]>();
  for (const line of lines) {
    const test = testOf(line);
    const list = tests.get(test);
    if (list) list.push(line);
    else tests.set(test, [line]);
  }
  return tests;
}

/** Compares two outputs of the guest; `exceptions` are those of the actual one's target. */
export function compareOutputs(
  expected: string,
  actual: string,
  exceptions: readonly Exception[],
): Comparison {
  const wanted = byTest(guestLines(expected));
  const seen = byTest(guestLines(actual));
  const compiled = exceptions.map((exception) => ({ exception, expression: new RegExp(exception.pattern) }));
  const used = new Set<Exception>();
  const differences: Difference[] = [];
  const excused: { difference: Difference; exception: Exception }[] = [];
  let same = 0;
  for (const test of new Set([...wanted.keys(), ...seen.keys()])) {
    const left = wanted.get(test) ?? [];
    const right = seen.get(test) ?? [];
    for (let i = 0; i < Math.max(left.length, right.length); i++) {
      const difference = { test, expected: left[i], actual: right[i] };
      if (left[i] === right[i]) {
        same++;
        continue;
      }
      const excuse = compiled.find(({ expression }) =>
        [left[i], right[i]].some((line) => line !== undefined && expression.test(line)),
      );
      if (excuse) {
        used.add(excuse.exception);
        excused.push({ difference, exception: excuse.exception });
      } else differences.push(difference);
    }
  }
  return {
    same,
    differences,
    excused,
    unused: exceptions.filter((exception) => !used.has(exception) && exception.skip === undefined),
  };
}

/** A comparison as text: a summary, then the first differences, expected over actual. */
export function describeComparison(comparison: Comparison, limit = 20): string {
  const { same, differences, excused, unused } = comparison;
  const lines = [
    `${same} lines agree, ${differences.length} differ, ${excused.length} differ with a reason`,
    ...differences
      .slice(0, limit)
      .flatMap(({ expected, actual }) => [`- ${expected ?? '(no line)'}`, `+ ${actual ?? '(no line)'}`]),
  ];
  if (differences.length > limit) lines.push(`... and ${differences.length - limit} more`);
  for (const { pattern } of unused) lines.push(`exception without effect: ${pattern}`);
  return lines.join('\n');
}
