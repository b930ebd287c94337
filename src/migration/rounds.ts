/**
 * Copying a guest while it runs: all of its RAM first, then again and again
 * what it has written to meanwhile, until that is little or does not get less.
 */

import { setImmediate as breathe } from 'node:timers/promises';
import { type PageSet, rangesOf } from '../machine/page-set.ts';
import { BLOCK_SIZE, nonZeroRuns, type Ram } from '../machine/ram.ts';
import type { Incoming, Written } from '../targets/target.ts';
import { guestPhysical } from '../x86/address.ts';

export interface Round {
  /** Bytes that were copied: in the first, RAM that is not zero; in the others, what the guest wrote during the one before. */
  readonly bytes: number;
  readonly milliseconds: number;
  /** Bytes of pages that the guest wrote to, a second, before this round. */
  readonly rate?: number;
}

/** Bytes that are worth no further round: what a kernel's sites alone take. */
const FEW = 4 * 2 ** 20;
/** No more: a guest that writes faster than it is copied is stopped then. */
const MOST_ROUNDS = 20;
/** There is less to copy each time, by this at least. */
const GAIN = 0.8;

/** All of RAM, to where it is zero. Bytes. */
export async function copyAll(ram: Ram, to: Pick<Incoming, 'write'>): Promise<number> {
  let bytes = 0;
  for (const run of nonZeroRuns(ram)) {
    await to.write(run.start, run.bytes);
    bytes += run.bytes.length;
    await breathe();
  }
  return bytes;
}

/** The pages of a set. Bytes. */
export async function copyPages(ram: Ram, pages: PageSet, to: Pick<Incoming, 'write'>): Promise<number> {
  const buffer = new Uint8Array(BLOCK_SIZE);
  let bytes = 0;
  for (const { start, size } of rangesOf(pages, ram.size))
    for (let done = 0; done < size; done += BLOCK_SIZE) {
      const block = buffer.subarray(0, Math.min(BLOCK_SIZE, size - done));
      ram.read(guestPhysical(start + done), block);
      await to.write(guestPhysical(start + done), block);
      bytes += block.length;
    }
  return bytes;
}

/**
 * Copies until the rest is best copied while the guest stands still.
 * @param written as of a guest (RunningGuest)
 * @param tell is told of each round
 */
export async function copyRounds(
  written: () => Promise<Written>,
  to: Pick<Incoming, 'write'>,
  tell: (round: Round) => void,
): Promise<Round[]> {
  const rounds: Round[] = [];
  let began = performance.now();
  let before = Number.POSITIVE_INFINITY;
  for (;;) {
    const { ram, pages } = await written();
    const since = performance.now();
    const bytes = pages ? await copyPages(ram, pages, to) : await copyAll(ram, to);
    const milliseconds = performance.now() - since;
    const round = { bytes, milliseconds, ...(pages && { rate: (bytes * 1000) / (since - began) }) };
    began = since;
    rounds.push(round);
    tell(round);
    const enough = bytes <= FEW || bytes > before * GAIN;
    if ((pages && enough) || rounds.length === MOST_ROUNDS) return rounds;
    if (pages) before = bytes;
  }
}
