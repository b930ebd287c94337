/** What bench/regions.c writes, row by row of osbench. Pure. */

/** Instructions by where they lie. */
export interface Counts {
  readonly xen: number;
  readonly wedge: number;
  readonly other: number;
}

/** Batches that osbench takes a row's value from. */
const BATCHES = 7;

const minus = (a: Counts, b: Counts): Counts => ({
  xen: a.xen - b.xen,
  wedge: a.wedge - b.wedge,
  other: a.other - b.other,
});

const plus = (a: Counts, b: Counts): Counts => ({
  xen: a.xen + b.xen,
  wedge: a.wedge + b.wedge,
  other: a.other + b.other,
});

export const NONE: Counts = { xen: 0, wedge: 0, other: 0 };

/** Each row's counts over its last batches, in the order of the rows. */
export function parseCounts(text: string): Counts[] {
  const rows: Counts[] = [];
  let times: Counts[] = [];
  for (const line of text.split('\n')) {
    const [, marker, xen, wedge, other] = /^(time|row) (\d+) (\d+) (\d+)$/.exec(line) ?? [];
    if (marker === undefined) continue;
    if (marker === 'time') {
      times.push({ xen: Number(xen), wedge: Number(wedge), other: Number(other) });
      continue;
    }
    const taken = times.slice(-2 * BATCHES);
    let sum = NONE;
    for (let i = 0; i + 1 < taken.length; i += 2) sum = plus(sum, minus(taken[i + 1]!, taken[i]!));
    rows.push(sum);
    times = [];
  }
  return rows;
}
