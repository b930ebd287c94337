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
import type { DomainName } from '../../src/x86/site-kinds.ts';
import { SUBSETS } from '../subsets.ts';
import { withDisk } from './disk.ts';
import { runOnQemu } from './qemu.ts';
import { expectRefusals } from './refusals.ts';

const TIMEOUT = 300_000;
const PREVIRT = join(import.meta.dirname, '../../bin/previrt');
const run = promisify(execFile);

/** Groups in which a domain makes a difference: ports, accesses to memory, page tables, burning as modules come. */
const GROUPS = ['registers', 'paging', 'uart', 'pic', 'bus', 'form', 'module'];
const DEVICE = 'device';

interface Machine {
  readonly name: string;
  readonly target: 'hosted' | 'xen';
  readonly options: readonly string[];
  readonly disk: boolean;
  readonly groups: readonly string[];
  readonly subsets: readonly (readonly DomainName[])[];
  /** Lines that agree at the least. */
  readonly lines: number;
}

const MACHINES: readonly Machine[] = [
  {
    name: 'hosted',
    target: 'hosted',
    options: [],
    disk: true,
    groups: [...GROUPS, DEVICE],
    subsets: SUBSETS,
    lines: 700,
  },
  {
    name: 'xen, initial domain',
    target: 'xen',
    options: [],
    disk: false,
    groups: GROUPS,
    subsets: SUBSETS,
    lines: 600,
  },
  {
    name: 'xen, domain with a disk',
    target: 'xen',
    options: ['--domain', 'domU'],
    disk: true,
    groups: [DEVICE],
    // With and without what is about its registers: a toolstack takes long to start.
    subsets: [
      ['cpu', 'entry'],
      ['cpu', 'mmio', 'entry'],
    ],
    lines: 90,
  },
];

let folder: string;
let kernel: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'previrt-subsets-'));
  kernel = await buildConformance({ annotated: true });
}, TIMEOUT);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What a burned image prints. */
async function output(machine: Machine, image: string, options: readonly string[]): Promise<string> {
  const start = async (disk: readonly string[]): Promise<string> => {
    const args = ['run', image, '--target', machine.target, ...machine.options, ...options, ...disk];
    const child = run(PREVIRT, args, { timeout: TIMEOUT, maxBuffer: 2 ** 24 });
    child.child.stdin?.end();
    return (await child).stdout;
  };
  return machine.disk ? withDisk((disk) => start(['--disk', disk])) : start([]);
}

describe.each(MACHINES)('subsets of domains on $name', (machine) => {
  const { target, groups } = machine;
  const append = `only=${groups.join()}`;
  let expected: string;
  beforeAll(async () => {
    expected = await runOnQemu(kernel, append, 'conformance: done', TIMEOUT);
  }, TIMEOUT);

  it.each(machine.subsets.map((domains) => domains.join()))(
    '%s',
    async (domains) => {
      const image = join(folder, `${target}-${domains}`);
      const settings = ['--memory', '64M', '--append', append];
      const [burning, running] = target === 'xen' ? [settings, []] : [[], settings];
      await run(PREVIRT, ['burn', kernel, '--target', target, '--domains', domains, ...burning, '-o', image]);
      const actual = await output(machine, image, running);
      const comparison = compareOutputs(expected, actual, exceptionsOf(target));
      expect(comparison.differences, describeComparison(comparison)).toEqual([]);
      expect(comparison.same).toBeGreaterThan(machine.lines);
      if (groups.includes('module')) expectRefusals(expected, actual);
    },
    TIMEOUT,
  );
});
