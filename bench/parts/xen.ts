/**
 * Instructions on Xen to instructions on bare hardware, row by row of osbench:
 * this system, this system with whatever can trap left to trap, and Linux as it
 * was ported to Xen by hand. All under QEMU, which counts.
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { step } from '../../guests/steps.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { countingEnvironment } from '../counter.ts';
import { type Counts, parseCounts } from '../counts.ts';
import { GOALS } from '../goals.ts';
import { parseOsbench } from '../osbench.ts';
import type { Figures, Goal, Part, Result, Row } from '../part.ts';
import { execute, type Peer } from '../peers/peer.ts';
import { xen as previrtXen, qemu, xenTrapping } from '../peers/previrt.ts';
import { pvopsBare, pvopsXen } from '../peers/pvops.ts';
import { geometricMean } from '../timing.ts';

const PEERS = { bare: qemu, ours: previrtXen, trapping: xenTrapping, pvopsBare, pvopsXen };
type PeerName = keyof typeof PEERS;

/** What each row is about; the others are not the kernel's, or have no counterpart in 64 bits. */
const NOTHING_MAPPED = [
  ...['null_syscall', 'read_1_zero', 'write_1_null', 'read_4k_zero', 'stat', 'open_close', 'pipe_rt'],
  ...['yield_2proc', 'sig_install', 'sig_deliver', 'creat_unlink'],
];
const MAPPING = [
  ...['fork_exit', 'fork_exec', 'vfork_exec', 'anon_fault_page', 'tmpfs_map_fault', 'fork_cow_page'],
  ...['mmap_munmap_64k', 'mprotect_pair', 'prot_fault'],
];

const COMPLETE = 'osbench is complete';
const SCRIPT = `osbench-counted dir=/tmp && echo ${COMPLETE}\n`;

/** Instructions of one operation, and the parts of them by where they lie, from 0 to 1. */
interface Cost {
  readonly total: number;
  readonly xen: number;
  readonly wedge: number;
}

/** Names of all rows that were printed, in order. */
const printedRows = (lines: readonly string[]): string[] =>
  lines.flatMap((line) => /^(\w+)\s+\d+\.\d\s+(?:ns|ms|MB\/s)\s*$/.exec(line)?.[1] ?? []);

function share(part: number, { xen, wedge, other }: Counts): number {
  const total = xen + wedge + other;
  return total === 0 ? 0 : part / total;
}

async function costs(peer: Peer, folder: string): Promise<ReadonlyMap<string, Cost>> {
  const output = join(folder, 'regions');
  const env = await countingEnvironment(folder, 'regions', output);
  const command = await peer.command(SCRIPT, folder);
  const lines = await step(`osbench on ${peer.name}, counted`, (report) =>
    execute({ ...command, env: { ...command.env, ...env } }, (line) =>
      report(line.trim().replace(/\s+/g, ' ')),
    ),
  );
  const names = printedRows(lines);
  const counts = parseCounts(readFileSync(output, 'utf8'));
  if (!lines.includes(COMPLETE) || names.length !== counts.length)
    throw new InputError(
      `osbench did not end well on ${peer.name}`,
      `it printed: ${lines.slice(-5).join(' | ')}`,
    );
  const values = parseOsbench(lines);
  return new Map(
    names.flatMap((name, index): [string, Cost][] => {
      const [value, counted] = [values.get(name), counts[index]!];
      if (value?.unit !== 'ns') return [];
      return [
        [
          name,
          { total: value.value, xen: share(counted.xen, counted), wedge: share(counted.wedge, counted) },
        ],
      ];
    }),
  );
}

type Found = Readonly<Record<PeerName, ReadonlyMap<string, Cost>>>;

/** @throws InputError if the row is not there */
function total(found: Found, peer: PeerName, row: string): number {
  const cost = found[peer].get(row);
  if (!cost) throw new InputError(`osbench printed no row ${row} on ${PEERS[peer].name}`);
  return cost.total;
}

const ratio = (found: Found, of: PeerName, to: PeerName, row: string): number =>
  total(found, of, row) / total(found, to, row);

const mean = (rows: readonly string[], value: (row: string) => number): number =>
  geometricMean(rows.map(value));

function summary(found: Found, what: string, rows: readonly string[], goal: Goal): Row[] {
  const ours = (row: string): number => ratio(found, 'ours', 'bare', row);
  const theirs = (row: string): number => ratio(found, 'pvopsXen', 'pvopsBare', row);
  const trapping = (row: string): number => ratio(found, 'trapping', 'ours', row);
  return [
    {
      what: `(a) to (c), ${what}: mean of ${rows.length} rows`,
      value: mean(rows, (row) => ours(row) / theirs(row)),
      unit: 'times',
      goal,
    },
    { what: `(a) to bare, ${what}`, value: mean(rows, ours), unit: 'times' },
    { what: `(c) to bare, ${what}`, value: mean(rows, theirs), unit: 'times' },
    { what: `(b) to (a), ${what}`, value: mean(rows, trapping), unit: 'times' },
  ];
}

function figures(found: Found): Figures {
  const part = (peer: PeerName, row: string, of: 'xen' | 'wedge'): string => {
    const cost = found[peer].get(row)!;
    return (cost.total * cost[of]).toFixed(0);
  };
  return {
    title:
      "osbench: instructions of one operation. (a) this system, (b) the same with what can trap left to trap, (c) pv-ops Linux; `Xen's` and `wedge's` are parts of the column before",
    columns: [
      'row',
      'bare',
      '(a) on Xen',
      "Xen's",
      "wedge's",
      '(a)/bare',
      '(b) on Xen',
      '(b)/(a)',
      '(c) bare',
      '(c) on Xen',
      "Xen's",
      '(c)/bare',
      '(a)/(c)',
    ],
    lines: [...NOTHING_MAPPED, ...MAPPING].map((row) => {
      const [ours, theirs] = [ratio(found, 'ours', 'bare', row), ratio(found, 'pvopsXen', 'pvopsBare', row)];
      return [
        row,
        total(found, 'bare', row).toFixed(0),
        total(found, 'ours', row).toFixed(0),
        part('ours', row, 'xen'),
        part('ours', row, 'wedge'),
        ours.toFixed(2),
        total(found, 'trapping', row).toFixed(0),
        ratio(found, 'trapping', 'ours', row).toFixed(2),
        total(found, 'pvopsBare', row).toFixed(0),
        total(found, 'pvopsXen', row).toFixed(0),
        part('pvopsXen', row, 'xen'),
        theirs.toFixed(2),
        (ours / theirs).toFixed(2),
      ];
    }),
  };
}

async function run(folder: string): Promise<Result> {
  await buildKernel('annotated');
  const measured: [string, ReadonlyMap<string, Cost>][] = [];
  for (const [name, peer] of Object.entries(PEERS)) measured.push([name, await costs(peer, folder)]);
  const found = Object.fromEntries(measured) as unknown as Found;
  return {
    rows: [
      ...summary(found, 'rows that map nothing', NOTHING_MAPPED, GOALS.pvops),
      ...summary(found, 'faults, fork, exec, mmap', MAPPING, GOALS.pvopsMapping),
    ],
    figures: figures(found),
  };
}

export const xen: Part = {
  name: 'xen',
  what: 'instructions on Xen to bare, against Linux as it was ported by hand',
  run,
};
