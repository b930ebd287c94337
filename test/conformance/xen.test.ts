/** The conformance guest on the real Xen: line by line what it prints on bare QEMU, but for the list. */

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { buildConformance } from '../../guests/conformance/build.ts';
import { compareOutputs, describeComparison } from '../../guests/conformance/compare.ts';
import { commandLineFor, exceptionsOf } from '../../guests/conformance/exceptions.ts';
import { withDisk } from './disk.ts';
import { runOnQemu } from './qemu.ts';
import { expectRefusals } from './refusals.ts';

const TIMEOUT = 300_000;
const PREVIRT = fileURLToPath(new URL('../../bin/previrt', import.meta.url));
const run = promisify(execFile);

/** Rejects unless the guest ends with status 0. */
async function xen(kernel: string, append: string, ...options: readonly string[]): Promise<string> {
  const args = ['run', kernel, '--target', 'xen', '--memory', '64M', '--append', append, ...options];
  const child = run(PREVIRT, args, { timeout: TIMEOUT, maxBuffer: 2 ** 24 });
  child.child.stdin?.end();
  return (await child).stdout;
}

const INITIAL = ['xen', 'xen as initial domain'];

/** By lists of exceptions and options of `previrt run`. */
const WAYS = [
  ['as initial domain of Xen 4.17', INITIAL, []],
  ['as initial domain of Xen 4.14', INITIAL, ['--machine', '4.14']],
  ['as initial domain of Xen 4.20', INITIAL, ['--machine', '4.20']],
  ['as a domain that xl starts', ['xen'], ['--domain', 'domU']],
] as const;

describe('the conformance guest on Xen', () => {
  it.for(WAYS)(
    'prints what it prints on bare QEMU: %s',
    { timeout: 2 * TIMEOUT },
    async ([, lists, options]) => {
      const kernel = await buildConformance({ annotated: true });
      const append = commandLineFor(...lists);
      const expected = await runOnQemu(kernel, append, 'conformance: done', TIMEOUT);
      const actual =
        lists === INITIAL
          ? await xen(kernel, append, ...options)
          : await withDisk((disk) => xen(kernel, append, ...options, '--disk', disk));
      const comparison = compareOutputs(expected, actual, exceptionsOf(...lists));
      expect(comparison.differences, describeComparison(comparison)).toEqual([]);
      // An exception that excuses nothing any more has to go.
      expect(comparison.unused).toEqual([]);
      expect(comparison.same).toBeGreaterThan(2000);
      expectRefusals(expected, actual);
      // Interrupts have come inside the loops that wait for them.
      expect(actual).toMatch(/^# \w+: enough: /m);
      expect(actual).not.toMatch(/^# \w+: too few: /m);
      // Nor are they held back until the loop is over: where Xen emulates rdtsc, nearly all come in that entry.
      for (const [line, ticks] of actual.matchAll(/^# \w+: enough: \d+ of (\d+) .*/gm))
        expect(Number(ticks), line).toBeLessThan(10_000);
    },
  );
});
