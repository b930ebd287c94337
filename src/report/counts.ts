/** What a run counted, for people. Pure. */

import type { Counts } from '../targets/counts.ts';
import { formatTable } from './table.ts';

/** Nanoseconds as people write them. */
export function formatTime(nanoseconds: number): string {
  const [value, unit] =
    nanoseconds < 1e3
      ? [nanoseconds, 'ns']
      : nanoseconds < 1e6
        ? [nanoseconds / 1e3, 'us']
        : [nanoseconds / 1e6, 'ms'];
  return `${value.toFixed(value < 10 && unit !== 'ns' ? 1 : 0)} ${unit}`;
}

export function formatCounts({ domains }: Counts): string {
  const columns = [
    { title: 'domain', align: 'left' },
    { title: 'sites', align: 'right' },
    { title: 'time', align: 'right' },
    { title: 'traps', align: 'right' },
    { title: 'time', align: 'right' },
    { title: 'found late', align: 'right' },
  ] as const;
  const rows = domains.map(({ domain, sites, siteTime, traps, trapTime, late }) => [
    ...[domain, sites, formatTime(siteTime), traps, formatTime(trapTime)],
    domain === 'pagetable' ? late : '',
  ]);
  return `${formatTable(columns, rows)}\n`;
}
