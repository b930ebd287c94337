import { expect, test } from 'vitest';
import { parseCounts } from '../../bench/counts.ts';

/** A batch that executes so many instructions of each kind, from so many on. */
const batch = (start: number, executed: number): string =>
  `time ${start} 0 ${start}\ntime ${start + executed} ${executed} ${start + 2 * executed}\n`;

const batches = (count: number, executed: number): string =>
  Array.from({ length: count }, (_, index) => batch(index * 1000, executed)).join('');

test('a row is the sum of its last seven batches, between the clock readings of each', () => {
  const first = `${batches(5, 900)}${batches(7, 10)}row 1 2 3\n`;
  const second = `${batches(7, 20)}row 1 2 3\n`;
  expect(parseCounts(first + second)).toEqual([
    { xen: 70, wedge: 70, other: 140 },
    { xen: 140, wedge: 140, other: 280 },
  ]);
});

test('lines that were cut off or are not its own are passed over', () => {
  expect(parseCounts(`noise\n${batches(7, 10)}time 12\nrow 1 2 3\ntime 1 2`)).toEqual([
    { xen: 70, wedge: 70, other: 140 },
  ]);
});
