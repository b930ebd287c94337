/** The conformance guest on bare QEMU: what it prints there is what every target must print. */

import { describe, expect, it } from 'vitest';
import { buildConformance } from '../../guests/conformance/build.ts';
import { compareOutputs, describeComparison, guestLines } from '../../guests/conformance/compare.ts';
import { runOnQemu } from './qemu.ts';

const TIMEOUT = 120_000;
const LAST_LINE = 'conformance: done';

const conformance = async (annotated: boolean, append = ''): Promise<string> =>
  runOnQemu(await buildConformance({ annotated }), append, LAST_LINE, TIMEOUT);

const difference = (expected: string, actual: string): string =>
  describeComparison(compareOutputs(expected, actual, []));

describe('the conformance guest on bare QEMU', () => {
  it(
    'prints the same annotated, plain, and again',
    async () => {
      const plain = await conformance(false);
      const lines = guestLines(plain);
      expect(lines.length).toBeGreaterThan(1500);
      expect(lines.filter((line) => line.includes('unexpected'))).toEqual([]);
      const all = `${lines.length} lines agree, 0 differ, 0 differ with a reason`;
      expect(difference(plain, await conformance(true))).toBe(all);
      expect(difference(plain, await conformance(true, 'stress=3'))).toBe(all);
    },
    3 * TIMEOUT,
  );

  it(
    'runs the tests that its command line selects',
    async () => {
      const groups = async (append: string): Promise<string[]> => [
        ...new Set(guestLines(await conformance(true, append)).map((line) => line.replace(/[.:].*/, ''))),
      ];
      expect(await groups('only=iret,flags.popf')).toEqual(['boot', 'flags', 'iret', 'conformance']);
      expect(await groups('from=fpu skip=lowmem')).toEqual([
        'boot',
        'fpu',
        'debug',
        'alignment',
        'conformance',
      ]);
    },
    TIMEOUT,
  );

  it(
    'gives up a test that meets an unexpected exception, and goes on',
    async () => {
      const output = guestLines(await conformance(true, 'only=selftest'));
      expect(output.filter((line) => !line.startsWith('boot'))).toEqual([
        'selftest.unexpected: before',
        'selftest.unexpected: unexpected #UD',
        'selftest.after: goes on',
        'conformance: done 2 tests',
      ]);
    },
    TIMEOUT,
  );
});
