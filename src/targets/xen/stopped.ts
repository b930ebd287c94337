/**
 * A domain that stands still, read from outside: Xen's machine is QEMU's, whose
 * memory is a file. The wedge names a machine frame that holds the frames of a
 * list, and the list has those of its pages of state and of all of guest RAM
 * (wedge/targets/xen/memory.c).
 */

import { readdirSync, readlinkSync, readSync } from 'node:fs';
import { viewOf } from '../../elf/codec.ts';
import { InputError } from '../../elf/input-error.ts';
import { MACHINE_STATE, type Machine } from '../../machine/state.ts';
import { guestPhysical } from '../../x86/address.ts';
import { offsetOf } from '../../x86/struct.ts';
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

/** Reads from pages that lie anywhere, as if they followed each other; runs of frames in one go. */
function scattered(fd: number, frames: Uint32Array): (offset: number, into: Uint8Array) => void {
  return (offset, into) => {
    for (let done = 0; done < into.length; ) {
      const page = Math.floor((offset + done) / PAGE);
      const inside = (offset + done) % PAGE;
      let length = PAGE - inside;
      for (let next = page; done + length < into.length && frames[next + 1] === frames[next]! + 1; next++)
        length += PAGE;
      length = Math.min(length, into.length - done);
      const frame = frames[page];
      if (frame === undefined || readSync(fd, into, done, length, frame * PAGE + inside) !== length)
        throw new InputError(`page ${page} of the guest lies outside the machine's memory`);
      done += length;
    }
  };
}

/** @throws InputError if what the wedge has said does not lead to a state */
export function stoppedState(pid: number | undefined, words: string, memory: MemoryFile): Machine {
  const [, root, own] = /^machine frame (\d+), (\d+) pages of state$/.exec(words)?.map(Number) ?? [];
  if (pid === undefined || root === undefined || own === undefined)
    throw new InputError(`the wedge says "stopped, ${words}"`);
  const fd = memory.open(memoryPath(pid));
  const listFrames = new Uint32Array(PAGE / 4);
  scattered(fd, Uint32Array.of(root))(0, new Uint8Array(listFrames.buffer));
  const readList = scattered(fd, listFrames);
  const state = new Uint32Array(own);
  readList(0, new Uint8Array(state.buffer));
  const machine = new Uint8Array(MACHINE_STATE.size);
  scattered(fd, state)(0, machine);
  const size = Number(viewOf(machine).getBigUint64(offsetOf(MACHINE_STATE, 'ram_size'), true));
  const ram = new Uint32Array(size / PAGE);
  readList(own * 4, new Uint8Array(ram.buffer));
  return toldState(scattered(fd, state), {
    size,
    extents: [{ start: guestPhysical(0), size }],
    read: scattered(fd, ram),
  });
}
