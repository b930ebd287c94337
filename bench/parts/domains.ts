/** What each domain of annotation is worth: hosted with it switched off, beside all of them. */

import { truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { runProgram, step } from '../../guests/steps.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { DOMAINS, type DomainName } from '../../src/x86/site-kinds.ts';
import { buildArchive } from '../archive.ts';
import { bestOf, type Measurements, parseOsbench } from '../osbench.ts';
import type { Part, Result } from '../part.ts';
import { execute, MEMORY } from '../peers/peer.ts';
import { PREVIRT } from '../peers/previrt.ts';
import { geometricMean } from '../timing.ts';

const ROUNDS = 3;
const DISK_SIZE = 16 * 2 ** 20;
const REQUESTS = 4000;
const PASSES = 20;

/** Forks write page tables; a read of a sector asks the disk's registers; what it prints goes through ports. */
const SCRIPT = `osbench dir=/tmp only=fork
from=$(cut -d' ' -f1 /proc/uptime)
for i in $(seq ${PASSES}); do dd if=/dev/vda of=/dev/null bs=4k count=${REQUESTS} iflag=direct 2>/dev/null; done
echo read $from $(cut -d' ' -f1 /proc/uptime)
for i in $(seq 3000); do echo a line of text; done
`;

const ALL = Object.keys(DOMAINS) as DomainName[];
const without = (...names: readonly DomainName[]): DomainName[] =>
  ALL.filter((name) => !names.includes(name));

const VARIANTS: Readonly<Record<string, readonly DomainName[]>> = {
  'all domains': ALL,
  'without portio': without('portio'),
  'without mmio': without('mmio'),
  'without pagetable': without('pagetable'),
  'without all three': without('portio', 'mmio', 'pagetable'),
};

interface Measured {
  readonly rows: Measurements;
  /** Microseconds of one read of the disk. */
  readonly read: number;
  /** Seconds of the whole run. */
  readonly total: number;
}

function measured(lines: readonly string[], total: number): Measured {
  const [, from, to] = /^read ([\d.]+) ([\d.]+)$/m.exec(lines.join('\n')) ?? [];
  const seconds = Number(to) - Number(from);
  const rows = parseOsbench(lines);
  if (!(seconds > 0) || rows.size === 0)
    throw new InputError('the guest did not measure its disk', `it printed: ${lines.slice(-5).join(' | ')}`);
  return { rows, read: (seconds / REQUESTS / PASSES) * 1e6, total };
}

async function run(folder: string): Promise<Result> {
  const { vmlinux } = await buildKernel('annotated');
  const initrd = await buildArchive(32, SCRIPT);
  const disk = join(folder, 'domains.disk');
  writeFileSync(disk, '');
  truncateSync(disk, DISK_SIZE);
  const runs = new Map<string, Measured[]>(Object.keys(VARIANTS).map((name) => [name, []]));
  for (const [name, domains] of Object.entries(VARIANTS))
    await runProgram(PREVIRT, [
      ...['burn', vmlinux, '--target', 'hosted', '--domains', domains.join(), '-o', join(folder, name)],
    ]);
  for (let round = 1; round <= ROUNDS; round++)
    for (const name of Object.keys(VARIANTS)) {
      const args = ['run', join(folder, name), '--memory', MEMORY, '--initrd', initrd, '--disk', disk];
      const begin = performance.now();
      const lines = await step(`${name}, round ${round} of ${ROUNDS}`, () =>
        execute({ program: PREVIRT, args }),
      );
      runs.get(name)!.push(measured(lines, (performance.now() - begin) / 1000));
    }
  const best = new Map(
    [...runs].map(([name, list]) => [
      name,
      {
        rows: bestOf(list.map(({ rows }) => rows)),
        read: Math.min(...list.map(({ read }) => read)),
        total: Math.min(...list.map(({ total }) => total)),
      },
    ]),
  );
  const base = best.get('all domains')!;
  const forks = (rows: Measurements): number =>
    geometricMean([...rows].map(([row, { value }]) => value / (base.rows.get(row)?.value ?? value)));
  return {
    rows: [...best].flatMap(([name, { rows, read, total }]) => [
      { what: `${name}: forks, as many times as long`, value: forks(rows), unit: 'times' as const },
      { what: `${name}: a read of 4 KiB of the disk`, value: read, unit: 'us' as const },
      { what: `${name}: the whole run`, value: total, unit: 's' as const },
    ]),
  };
}

export const domains: Part = {
  name: 'domains',
  what: 'what each domain of annotation is worth, hosted: with and without it',
  run,
};
