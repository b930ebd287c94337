/** Plain-text tables and numbers for people. Pure. */

import { printable } from '../elf/input-error.ts';

export type Cell = string | number;

export interface Column {
  readonly title: string;
  /** Numbers stand right. */
  readonly align: 'left' | 'right';
}

/** Aligned columns, two spaces apart, no line longer than its content. Names in a stranger's file steer no terminal. */
export function formatTable(columns: readonly Column[], rows: readonly (readonly Cell[])[]): string {
  const cells = [columns.map(({ title }) => title), ...rows].map((row) =>
    row.map((cell) => printable(String(cell))),
  );
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => row[index]?.length ?? 0)));
  return cells
    .map((row) =>
      columns
        .map(({ align }, index) =>
          align === 'right'
            ? (row[index] ?? '').padStart(widths[index]!)
            : (row[index] ?? '').padEnd(widths[index]!),
        )
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** `1 site`, `2 sites`. */
export const plural = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`;

/** Bytes as people write them: 512 bytes, 5.4 kB, 5.4 MB. */
export function formatBytes(bytes: number): string {
  if (bytes < 1000) return plural(bytes, 'byte');
  const [value, unit] = bytes < 1e6 ? [bytes / 1e3, 'kB'] : [bytes / 1e6, 'MB'];
  return `${value.toFixed(value < 10 ? 1 : 0)} ${unit}`;
}
