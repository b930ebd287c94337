/**
 * Pages of a domain that its wedge opens to the outside, in machine frames: one
 * holds the frames of a list, and the list has those of the wedge's pages of
 * state and of all of guest RAM (wedge/targets/xen/memory.c).
 */

import { readSync } from 'node:fs';
import { viewOf } from '../../elf/codec.ts';
import { InputError } from '../../elf/input-error.ts';
import type { Ram } from '../../machine/ram.ts';
import { MACHINE_STATE, type Machine } from '../../machine/state.ts';
import { MAX_MEMORY } from '../../machine/virtual-pc.ts';
import { guestPhysical } from '../../x86/address.ts';
import { offsetOf } from '../../x86/struct.ts';
import { toldState } from '../told-state.ts';

export const FRAME_SIZE = 4096;
/** Frames that one page of them names, and the most that the list has. */
const FRAMES = FRAME_SIZE / 4;
const MOST_FRAMES = FRAMES * FRAMES;

/** Machine memory in an open file. */
export interface MachineMemory {
  readonly file: number;
  /** Where a frame lies in the file, in bytes; undefined if it is not there. */
  place(frame: number): number | undefined;
}

/** What leads to the pages. */
export interface Told {
  /** The frame that holds those of the list. */
  readonly root: number;
  /** Pages of state, with which the list begins. */
  readonly pages: number;
}

type Transfer = (file: number, bytes: Uint8Array, from: number, length: number, position: number) => number;

/** Pages that lie anywhere, as if they followed each other; those that lie so, in one go. */
export function scattered(
  transfer: Transfer,
  { file, place }: MachineMemory,
  frames: Uint32Array,
): (offset: number, bytes: Uint8Array) => void {
  const placeOf = (page: number): number | undefined => {
    const frame = frames[page];
    return frame === undefined ? undefined : place(frame);
  };
  return (offset, bytes) => {
    for (let done = 0; done < bytes.length; ) {
      const page = Math.floor((offset + done) / FRAME_SIZE);
      const inside = (offset + done) % FRAME_SIZE;
      const start = placeOf(page);
      let length = FRAME_SIZE - inside;
      if (start !== undefined)
        for (let next = 1; done + length < bytes.length; next++, length += FRAME_SIZE)
          if (placeOf(page + next) !== start + next * FRAME_SIZE) break;
      length = Math.min(length, bytes.length - done);
      if (start === undefined || transfer(file, bytes, done, length, start + inside) !== length)
        throw new InputError(`the wedge tells of machine frame ${frames[page]}, which is not there`);
      done += length;
    }
  };
}

interface OpenPages {
  /** Frames of the pages of state. */
  readonly state: Uint32Array;
  /** Frames of so many bytes of guest RAM. */
  ram(size: number): Uint32Array;
}

/** @throws InputError if what is told does not lead to pages */
export function openPages(memory: MachineMemory, { root, pages }: Told): OpenPages {
  const lists = new Uint32Array(FRAMES);
  scattered(readSync, memory, Uint32Array.of(root))(0, new Uint8Array(lists.buffer));
  const list = (first: number, count: number): Uint32Array => {
    if (first + count > MOST_FRAMES) throw new InputError(`the wedge tells of ${first + count} pages`);
    const frames = new Uint32Array(count);
    scattered(readSync, memory, lists)(first * 4, new Uint8Array(frames.buffer));
    return frames;
  };
  return { state: list(0, pages), ram: (size) => list(pages, size / FRAME_SIZE) };
}

/** Guest RAM by its frames. */
export function ramIn(memory: MachineMemory, frames: Uint32Array): Ram {
  const size = frames.length * FRAME_SIZE;
  return {
    size,
    extents: [{ start: guestPhysical(0), size }],
    read: scattered(readSync, memory, frames),
  };
}

/**
 * The state of a guest that stands still.
 * @param logged whether a log of what it has written is told too
 * @throws InputError if what is told does not lead to it
 */
export function domainState(memory: MachineMemory, told: Told, logged: boolean): Machine {
  const { state, ram } = openPages(memory, told);
  const readState = scattered(readSync, memory, state);
  const head = new Uint8Array(MACHINE_STATE.size);
  readState(0, head);
  const size = viewOf(head).getBigUint64(offsetOf(MACHINE_STATE, 'ram_size'), true);
  if (size === 0n || size > MAX_MEMORY || size % BigInt(FRAME_SIZE))
    throw new InputError(`the wedge tells of RAM of ${size} bytes`);
  return toldState(readState, ramIn(memory, ram(Number(size))), logged);
}
