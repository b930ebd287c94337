/** The conformance guest as a process of this host: line by line what it prints on bare QEMU, but for the list. */

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { buildConformance } from '../../guests/conformance/build.ts';
import { compareOutputs, describeComparison } from '../../guests/conformance/compare.ts';
import { commandLineFor, exceptionsOf } from '../../guests/conformance/exceptions.ts';
import { runOnQemu } from './qemu.ts';

const TIMEOUT = 120_000;
const PREVIRT = fileURLToPath(new URL('../../bin/previrt', import.meta.url));
const run = promisify(execFile);

async function hosted(kernel: string, append: string): Promise<string> {
  const args = ['run', kernel, '--target', 'hosted', '--memory', '64M', '--append', append];
  // Rejects unless the guest ends with status 0.
  const child = run(PREVIRT, args, { timeout: TIMEOUT, maxBuffer: 2 ** 24 });
  child.child.stdin?.end();
  return (await child).stdout;
}

describe('the conformance guest on hosted', () => {
  it(
    'prints what it prints on bare QEMU',
    async () => {
      const kernel = await buildConformance({ annotated: true });
      const append = commandLineFor('hosted');
      const expected = await runOnQemu(kernel, append, 'conformance: done', TIMEOUT);
      const comparison = compareOutputs(expected, await hosted(kernel, append), exceptionsOf('hosted'));
      expect(comparison.differences, describeComparison(comparison)).toEqual([]);
      // An exception that excuses nothing any more has to go.
      expect(comparison.unused).toEqual([]);
      expect(comparison.same).toBeGreaterThan(1900);
    },
    2 * TIMEOUT,
  );
});
