/**
 * A domain that stands still, or awaits a guest, from outside: Xen's machine is
 * QEMU's, whose memory is a file. The wedge names a machine frame that holds the frames of a
 * list, and the list has those of its pages of state and of all of guest RAM
 * (wedge/targets/xen/memory.c).
 */

import { readdirSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { viewOf } from '../../elf/codec.ts';
import { InputError } from '../../elf/input-error.ts';
import { pageSetSize } from '../../machine/page-set.ts';
import type { Ram } from '../../machine/ram.ts';
import { MACHINE_STATE, type Machine } from '../../machine/state.ts';
import { encodeMachineState } from '../../machine/state-blob.ts';
import { guestPhysical } from '../../x86/address.ts';
import { offsetOf } from '../../x86/struct.ts';
import type { Incoming, Written } from '../target.ts';
import { type MemoryFile, toldState } from '../told-state.ts';

const PAGE = 4096;
/** Of the memory in QEMU, by which its descriptor is known. */
export const MEMORY_FILE = 'previrt-memory';

/** QEMU's memory. @throws InputError if it has none that is a file */
function memoryPath(pid: number): string {
  const folder = `/proc/${pid}/fd`;
  const name = readdirSync(folder).find((fd) => {
    try {
      return readlinkSync(`${folder}/${fd}`).startsWith('/memfd:memory-backend-memfd');
    } catch {
      return false; // Closed meanwhile.
    }
  });
  if (name === undefined) throw new InputError("QEMU's memory is no file that can be read");
  return `${folder}/${name}`;
}

type Transfer = (fd: number, bytes: Uint8Array, from: number, length: number, position: number) => number;

/** Pages that lie anywhere, as if they followed each other; runs of frames in one go. */
const scattered =
  (transfer: Transfer, fd: number, frames: Uint32Array) =>
  (offset: number, bytes: Uint8Array): void => {
    for (let done = 0; done < bytes.length; ) {
      const page = Math.floor((offset + done) / PAGE);
      const inside = (offset + done) % PAGE;
      let length = PAGE - inside;
      for (let next = page; done + length < bytes.length && frames[next + 1] === frames[next]! + 1; next++)
        length += PAGE;
      length = Math.min(length, bytes.length - done);
      const frame = frames[page];
      if (frame === undefined || transfer(fd, bytes, done, length, frame * PAGE + inside) !== length)
        throw new InputError(`page ${page} of the guest lies outside the machine's memory`);
      done += length;
    }
  };

/** What a wedge has opened to the outside. */
interface OpenPages {
  readonly fd: number;
  /** Frames of the pages for its state. */
  readonly state: Uint32Array;
  /** Frames of so many bytes of guest RAM. */
  ram(size: number): Uint32Array;
}

/**
 * Finds the pages that the wedge has named in its words.
 * @throws InputError if these do not lead to them
 */
function openPages(pid: number | undefined, words: string, memory: MemoryFile, flags: 'r' | 'r+'): OpenPages {
  const [, root, own] = /^machine frame (\d+), (\d+) pages of state$/.exec(words)?.map(Number) ?? [];
  if (pid === undefined || root === undefined || own === undefined)
    throw new InputError(`the wedge says "${words}"`);
  const fd = memory.open(memoryPath(pid), flags);
  const listFrames = new Uint32Array(PAGE / 4);
  scattered(readSync, fd, Uint32Array.of(root))(0, new Uint8Array(listFrames.buffer));
  const list = (first: number, count: number): Uint32Array => {
    const frames = new Uint32Array(count);
    scattered(readSync, fd, listFrames)(first * 4, new Uint8Array(frames.buffer));
    return frames;
  };
  return { fd, state: list(0, own), ram: (size) => list(own, size / PAGE) };
}

/** @throws InputError if what the wedge has said does not lead to a state */
export function stoppedState(
  pid: number | undefined,
  words: string,
  memory: MemoryFile,
  logged: boolean,
): Machine {
  const { fd, state, ram } = openPages(pid, words, memory, 'r');
  const machine = new Uint8Array(MACHINE_STATE.size);
  scattered(readSync, fd, state)(0, machine);
  const size = Number(viewOf(machine).getBigUint64(offsetOf(MACHINE_STATE, 'ram_size'), true));
  return toldState(scattered(readSync, fd, state), ramIn(fd, ram(size)), logged);
}

/** The same for the log of a guest that runs. */
export function loggedPages(
  pid: number | undefined,
  words: string,
  memory: MemoryFile,
  ramSize: number,
): Required<Written> {
  const { fd, state, ram } = openPages(pid, words, memory, 'r');
  const pages = new Uint8Array(pageSetSize(ramSize));
  scattered(readSync, fd, state)(0, pages);
  return { ram: ramIn(fd, ram(ramSize)), pages };
}

function ramIn(fd: number, frames: Uint32Array): Ram {
  const size = frames.length * PAGE;
  return { size, extents: [{ start: guestPhysical(0), size }], read: scattered(readSync, fd, frames) };
}

/**
 * The place of a guest that a wedge awaits. Nothing of it has run there yet, so
 * that QEMU has translated nothing of it.
 * @param ramSize bytes
 * @param goOn tells the wedge that all is there
 * @throws InputError if what it has said does not lead to the place
 */
export function awaitedPlace(
  pid: number | undefined,
  words: string,
  memory: MemoryFile,
  ramSize: number,
  goOn: () => void,
): Incoming {
  const { fd, state, ram } = openPages(pid, words, memory, 'r+');
  const frames = ram(ramSize);
  const write = (to: Uint32Array, offset: number, bytes: Uint8Array): void => {
    if (memory.descriptor === fd) scattered(writeSync, fd, to)(offset, bytes);
  };
  return {
    write: (start, bytes) => write(frames, start, bytes),
    takeUp: (machine) => {
      const whole = encodeMachineState(machine);
      if (whole.length > state.length * PAGE)
        throw new InputError('the guest and its modules have more sites than there is room for');
      write(state, 0, whole);
      goOn();
    },
  };
}
