/** Sets of pages of guest RAM: a bit each, from the lowest of the first byte on. */

import { guestPhysical } from '../x86/address.ts';
import { PAGE_SIZE, type RamRange } from './ram.ts';

/** By page number. */
export type PageSet = Uint8Array;

/** Bytes of a set for so many bytes of RAM. */
export const pageSetSize = (ramSize: number): number => Math.ceil(ramSize / PAGE_SIZE / 8);

const has = (set: PageSet, page: number): boolean => ((set[page >> 3]! >> (page & 7)) & 1) !== 0;

/** The pages of a set that are in RAM, as ranges: ascending, apart from each other. The last byte may have bits behind them. */
export function* rangesOf(set: PageSet, ramSize: number): Generator<RamRange> {
  const pages = Math.min(set.length * 8, ramSize / PAGE_SIZE);
  let first = -1;
  for (let page = 0; page <= pages; page++) {
    if (first < 0 && (page & 7) === 0 && set[page >> 3] === 0) {
      page += 7;
      continue;
    }
    const isIn = page < pages && has(set, page);
    if (isIn && first < 0) first = page;
    if (!isIn && first >= 0) {
      yield { start: guestPhysical(first * PAGE_SIZE), size: (page - first) * PAGE_SIZE };
      first = -1;
    }
  }
}
