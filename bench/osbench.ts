/** What bench/osbench.c prints, and how results compare. Pure. */

export interface Measurement {
  readonly value: number;
  readonly unit: string;
}

/** By the row's name. */
export type Measurements = ReadonlyMap<string, Measurement>;

/** Units of which more is better; of the others less is. */
const RATES: ReadonlySet<string> = new Set(['MB/s']);

/** Rows that switch between processes' address spaces. */
export const isSwitching = (row: string): boolean => /^(pipe_rt|yield_2proc|v?fork_\w+)$/.test(row);

/** Rows that start a program of the system they run on, another one natively than in a guest. */
const INCOMPARABLE: ReadonlySet<string> = new Set(['fork_sh_c']);

/** The comparable rows among lines of output; all else is passed over. */
export function parseOsbench(lines: readonly string[]): Measurements {
  const found = new Map<string, Measurement>();
  for (const line of lines) {
    const [, name, value, unit] = /^(\w+)\s+(\d+\.\d+)\s+(\S+)\s*$/.exec(line) ?? [];
    if (name === undefined || value === undefined || unit === undefined || INCOMPARABLE.has(name)) continue;
    found.set(name, { value: Number(value), unit });
  }
  return found;
}

/** Each row's best over several runs: what disturbs a run only makes it worse. */
export function bestOf(runs: readonly Measurements[]): Measurements {
  const best = new Map<string, Measurement>();
  for (const [name, measured] of runs.flatMap((run) => [...run])) {
    const known = best.get(name);
    if (known === undefined || isBetter(measured, known)) best.set(name, measured);
  }
  return best;
}

const isBetter = (a: Measurement, b: Measurement): boolean =>
  RATES.has(a.unit) ? a.value > b.value : a.value < b.value;

/** How many times slower than native. */
export const slowdown = (guest: Measurement, native: Measurement): number =>
  RATES.has(guest.unit) ? native.value / guest.value : guest.value / native.value;

/** Slowdown by row, for the rows that both have. */
export function slowdowns(guest: Measurements, native: Measurements): ReadonlyMap<string, number> {
  const found = new Map<string, number>();
  for (const [name, measured] of guest) {
    const base = native.get(name);
    if (base !== undefined) found.set(name, slowdown(measured, base));
  }
  return found;
}
