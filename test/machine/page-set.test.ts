/** Sets of pages as ranges. */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { pageSetSize, rangesOf } from '../../src/machine/page-set.ts';
import { PAGE_SIZE } from '../../src/machine/ram.ts';

/** The pages in the ranges, one by one. */
const pagesOf = (set: Uint8Array, ramSize: number): number[] =>
  Array.from(rangesOf(set, ramSize)).flatMap(({ start, size }) =>
    Array.from({ length: size / PAGE_SIZE }, (_, index) => start / PAGE_SIZE + index),
  );

it('has the pages whose bits are set, but none behind RAM', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 100 }),
      fc.uint8Array({ minLength: 13, maxLength: 13 }),
      (pages, bits) => {
        const set = bits.subarray(0, pageSetSize(pages * PAGE_SIZE));
        const inSet = Array.from({ length: pages }, (_, page) => page).filter(
          (page) => (set[page >> 3]! >> (page & 7)) & 1,
        );
        expect(pagesOf(set, pages * PAGE_SIZE)).toEqual(inSet);
      },
    ),
  );
});

it('ends where RAM does', () => {
  const all = Uint8Array.of(0xff, 0xff);
  expect(Array.from(rangesOf(all, 13 * PAGE_SIZE))).toEqual([{ start: 0, size: 13 * PAGE_SIZE }]);
});
