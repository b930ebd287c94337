/**
 * What an operating system does for its programs, row by row: natively, hosted,
 * and on what people use where there is no hardware virtualization.
 */

import { InputError } from '../../src/elf/input-error.ts';
import { GOALS } from '../goals.ts';
import { measure } from '../measure.ts';
import { isSwitching, slowdowns } from '../osbench.ts';
import type { Figures, Goal, Part, Result, Row } from '../part.ts';
import { native32, native64 } from '../peers/native.ts';
import { hosted, qemu } from '../peers/previrt.ts';
import { uml } from '../peers/uml.ts';
import { geometricMean } from '../timing.ts';

const PEERS = { native32, native64, hosted, uml, qemu };
const ROUNDS = 5;

/** How many times faster than another: quotients of the slowdowns, by row. */
type Gains = ReadonlyMap<string, number>;

function gainsOver(other: ReadonlyMap<string, number>, own: ReadonlyMap<string, number>): Gains {
  const found = new Map<string, number>();
  for (const [row, slower] of other) {
    const ours = own.get(row);
    if (ours !== undefined) found.set(row, slower / ours);
  }
  return found;
}

const only = (gains: Gains, switching: boolean): [string, number][] =>
  [...gains].filter(([row]) => isSwitching(row) === switching);

/** The worst row and the mean of one kind of rows, against one peer. */
function summary(
  peer: string,
  gains: Gains,
  switching: boolean,
  goals: { readonly worst?: Goal; readonly mean?: Goal },
): Row[] {
  const rows = only(gains, switching).sort(([, a], [, b]) => a - b);
  const [worst] = rows;
  if (worst === undefined) throw new InputError(`osbench has no rows to compare with ${peer}`);
  const which = switching ? 'switching rows' : 'rows that stay';
  return [
    {
      what: `hosted against ${peer}: worst of ${rows.length} ${which} (${worst[0]})`,
      value: worst[1],
      unit: 'times',
      ...(goals.worst && { goal: goals.worst }),
    },
    {
      what: `hosted against ${peer}: mean of ${rows.length} ${which}`,
      value: geometricMean(rows.map(([, gain]) => gain)),
      unit: 'times',
      ...(goals.mean && { goal: goals.mean }),
    },
  ];
}

async function run(folder: string): Promise<Result> {
  const found = await measure(PEERS, folder, ROUNDS);
  const slower = {
    hosted: slowdowns(found.hosted, found.native32),
    qemu: slowdowns(found.qemu, found.native32),
    uml: slowdowns(found.uml, found.native64),
  };
  const gains = { uml: gainsOver(slower.uml, slower.hosted), qemu: gainsOver(slower.qemu, slower.hosted) };
  const decimals = (value: number | undefined, digits: number): string | undefined => value?.toFixed(digits);
  const lineOf = (row: string): Figures['lines'][number] => [
    row,
    found.native32.get(row)?.unit,
    decimals(found.native32.get(row)?.value, 0),
    decimals(found.hosted.get(row)?.value, 0),
    decimals(found.qemu.get(row)?.value, 0),
    decimals(found.native64.get(row)?.value, 0),
    decimals(found.uml.get(row)?.value, 0),
    decimals(slower.hosted.get(row), 2),
    decimals(slower.qemu.get(row), 2),
    decimals(slower.uml.get(row), 2),
    decimals(gains.uml.get(row), 2),
    decimals(gains.qemu.get(row), 2),
  ];
  const names = [...found.native32.keys()];
  return {
    rows: [
      ...summary(uml.name, gains.uml, false, { worst: GOALS.uml }),
      ...summary(qemu.name, gains.qemu, false, { mean: GOALS.tcg }),
      ...summary(uml.name, gains.uml, true, { mean: GOALS.switching }),
      ...summary(qemu.name, gains.qemu, true, {}),
    ],
    figures: {
      title:
        "osbench: each peer's value, how many times slower than native of the same width, and how many times faster hosted is by that; rows that switch address spaces last",
      columns: [
        'row',
        'unit',
        native32.name,
        'hosted',
        'QEMU',
        native64.name,
        'UML',
        'hosted/native',
        'QEMU/native',
        'UML/native',
        'against UML',
        'against QEMU',
      ],
      lines: [...names.filter((row) => !isSwitching(row)), ...names.filter(isSwitching)].map(lineOf),
    },
  };
}

export const osbench: Part = {
  name: 'osbench',
  what: 'system calls, faults, processes: hosted against User-Mode Linux and QEMU TCG',
  run,
};
