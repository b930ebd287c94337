/** The conformance guest with each subset of domains burned: what is left out traps, and nothing else changes. */

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildConformance } from '../../guests/conformance/build.ts';
import { compareOutputs, describeComparison } from '../../guests/conformance/compare.ts';
import { exceptionsOf } from '../../guests/conformance/exceptions.ts';
import { SUBSETS } from '../subsets.ts';
import { runOnQemu } from './qemu.ts';

const TIMEOUT = 300_000;
const PREVIRT = join(import.meta.dirname, '../../bin/previrt');
const run = promisify(execFile);

/** Groups in which a domain makes a difference: ports, accesses to memory, page tables. */
const APPEND = 'only=registers,paging,uart,pic,bus,form';

let folder: string;
let kernel: string;
let expected: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'previrt-subsets-'));
  kernel = await buildConformance({ annotated: true });
  expected = await runOnQemu(kernel, APPEND, 'conformance: done', TIMEOUT);
}, TIMEOUT);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What a burned image prints. */
async function output(target: string, image: string, options: readonly string[]): Promise<string> {
  const child = run(PREVIRT, ['run', image, '--target', target, ...options], {
    timeout: TIMEOUT,
    maxBuffer: 2 ** 24,
  });
  child.child.stdin?.end();
  return (await child).stdout;
}

describe.each(['hosted', 'xen'] as const)('subsets of domains on %s', (target) => {
  it.each(SUBSETS.map((domains) => domains.join()))(
    '%s',
    async (domains) => {
      const image = join(folder, `${target}-${domains}`);
      const machine = ['--memory', '64M', '--append', APPEND];
      const [burning, running] = target === 'xen' ? [machine, []] : [[], machine];
      await run(PREVIRT, ['burn', kernel, '--target', target, '--domains', domains, ...burning, '-o', image]);
      const actual = await output(target, image, running);
      const comparison = compareOutputs(expected, actual, exceptionsOf(target));
      expect(comparison.differences, describeComparison(comparison)).toEqual([]);
      expect(comparison.same).toBeGreaterThan(500);
    },
    TIMEOUT,
  );
});
