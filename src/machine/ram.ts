/**
 * Guest RAM to be read: in pages, by guest-physical address, from wherever it
 * lies. Nobody holds all of it.
 */

import { readSync, writeSync } from 'node:fs';
import { InputError } from '../elf/input-error.ts';
import { type GuestPhysical, guestPhysical } from '../x86/address.ts';

export const PAGE_SIZE = 4096;

export interface RamRange {
  readonly start: GuestPhysical;
  /** Bytes. */
  readonly size: number;
}

/** RAM, or all of it that is not zero, as it lies in an open file. */
export interface RamInFile {
  readonly descriptor: number;
  /** `offset` is one in the file, in bytes. */
  readonly pieces: readonly (RamRange & { readonly offset: number })[];
}

export interface Ram {
  /** Bytes, whole pages. */
  readonly size: number;
  /** Whole pages, ascending, apart from each other. Outside of them all is zero; inside there may be zeros too. */
  readonly extents: readonly RamRange[];
  /** Fills `into` with what lies at `start`. @throws RangeError beyond `size`, InputError if it cannot be had */
  read(start: GuestPhysical, into: Uint8Array): void;
  /** Where it can be had without reading it here, if it can. */
  readonly file?: RamInFile | undefined;
}

/** How much is held at a time. */
export const BLOCK_SIZE = 2 ** 20;

const ZEROS = new Uint8Array(PAGE_SIZE);
const isZero = (page: Uint8Array): boolean => Buffer.compare(page, ZEROS) === 0;

/** @throws RangeError unless the range lies inside RAM. */
export function checkRange(ram: { readonly size: number }, start: GuestPhysical, size: number): void {
  if (!(start >= 0 && start + size <= ram.size))
    throw new RangeError(`0x${start.toString(16)}+0x${size.toString(16)} is not in RAM`);
}

/** Bytes that are read or written in one go at most: Node's limit is below 2 GiB. */
const LARGEST_PIECE = 2 ** 30;

/** Fills `into` from a file. @throws InputError if the file ends before. */
export function readFully(file: number, into: Uint8Array, position: number, what: string): void {
  for (let done = 0; done < into.length; ) {
    const count = readSync(file, into, done, Math.min(into.length - done, LARGEST_PIECE), position + done);
    if (count === 0)
      throw new InputError(
        `truncated: ${what} should lie at 0x${position.toString(16)}+0x${into.length.toString(16)}, the file ends at 0x${(position + done).toString(16)}`,
      );
    done += count;
  }
}

/** Writes all of `bytes` to a file. */
export function writeFully(file: number, bytes: Uint8Array, position: number): void {
  for (let done = 0; done < bytes.length; )
    done += writeSync(file, bytes, done, Math.min(bytes.length - done, LARGEST_PIECE), position + done);
}

/** RAM that lies in an open file as it is, a memfd for one. */
export function fileRam(file: number, size: number): Ram {
  const ram: Ram = {
    size,
    extents: [{ start: guestPhysical(0), size }],
    file: { descriptor: file, pieces: [{ start: guestPhysical(0), size, offset: 0 }] },
    read(start, into) {
      checkRange(ram, start, into.length);
      readFully(file, into, start, 'guest RAM');
    },
  };
  return ram;
}

/** RAM that is all zeros. */
export function emptyRam(size: number): Ram {
  const ram: Ram = {
    size,
    extents: [],
    read(start, into) {
      checkRange(ram, start, into.length);
      into.fill(0);
    },
  };
  return ram;
}

/** RAM in memory: for small ones. */
export function memoryRam(bytes: Uint8Array): Ram {
  const ram: Ram = {
    size: bytes.length,
    extents: [{ start: guestPhysical(0), size: bytes.length }],
    read(start, into) {
      checkRange(ram, start, into.length);
      into.set(bytes.subarray(start, start + into.length));
    },
  };
  return ram;
}

/** How many runs nonZeroRuns finds at most: every second page is one. */
export const mostRuns = ({ extents }: Ram): number =>
  extents.reduce((sum, { size }) => sum + Math.ceil(size / PAGE_SIZE / 2), 0);

/**
 * The runs of pages that are not zero, ascending, none longer than BLOCK_SIZE.
 * Their bytes are valid until the next is asked for.
 */
export function* nonZeroRuns(
  ram: Ram,
): Generator<{ readonly start: GuestPhysical; readonly bytes: Uint8Array }> {
  const buffer = new Uint8Array(BLOCK_SIZE);
  for (const extent of ram.extents)
    for (let done = 0; done < extent.size; done += BLOCK_SIZE) {
      const base = extent.start + done;
      const block = buffer.subarray(0, Math.min(BLOCK_SIZE, extent.size - done));
      ram.read(guestPhysical(base), block);
      let run = -1;
      for (let at = 0; at <= block.length; at += PAGE_SIZE) {
        const zero = at === block.length || isZero(block.subarray(at, at + PAGE_SIZE));
        if (zero && run >= 0) yield { start: guestPhysical(base + run), bytes: block.subarray(run, at) };
        run = zero ? -1 : run < 0 ? at : run;
      }
    }
}
