/** The benchmark's report, for people and for programs. Pure. */

import { formatTable } from '../src/report/table.ts';
import type { Machine } from './machine.ts';
import { type Figures, type Goal, type Result, type Row, UNIT_DECIMALS, verdict } from './part.ts';

export interface PartResult extends Result {
  readonly part: string;
}

export interface Report {
  readonly machine: Machine;
  readonly parts: readonly PartResult[];
}

const SIGNS = { more: '>=', less: '<=' } as const;

/** A limit as people write it: without the zeros that say nothing. */
const limit = ({ better }: Goal, value: number | undefined): string =>
  value === undefined ? '' : `${SIGNS[better]} ${value}`;

const resultLine = (part: string, row: Row): string[] => [
  part,
  row.what,
  row.value.toFixed(UNIT_DECIMALS[row.unit]),
  row.unit,
  row.goal === undefined ? '' : limit(row.goal, row.goal.must),
  row.goal === undefined ? '' : limit(row.goal, row.goal.aim),
  verdict(row) ?? '',
];

function formatFigures({ title, columns, lines }: Figures): string {
  const table = formatTable(
    columns.map((column, index) => ({ title: column, align: index === 0 ? 'left' : 'right' })),
    lines.map((line) => line.map((cell) => cell ?? '-')),
  );
  return `${title}\n${table}`;
}

export function formatReport({ machine, parts }: Report): string {
  const rows = formatTable(
    [
      { title: 'part', align: 'left' },
      { title: 'what', align: 'left' },
      { title: 'value', align: 'right' },
      { title: 'unit', align: 'left' },
      { title: 'must', align: 'left' },
      { title: 'aim', align: 'left' },
      { title: 'reached', align: 'left' },
    ],
    parts.flatMap(({ part, rows }) => rows.map((row) => resultLine(part, row))),
  );
  const { processor, processors, system, load } = machine;
  const head = `${processor}, ${processors} processors, ${system}; load ${load.toFixed(2)} at the start`;
  const figures = parts.flatMap((part) => (part.figures ? [formatFigures(part.figures)] : []));
  return `${[head, rows, ...figures].join('\n\n')}\n`;
}

export function reportJson({ machine, parts }: Report): unknown {
  return {
    machine,
    parts: parts.map(({ part, rows, figures }) => ({
      part,
      rows: rows.map((row) => ({ ...row, reached: verdict(row) ?? null })),
      ...(figures && { figures }),
    })),
  };
}
