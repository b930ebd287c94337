/**
 * A domain that stands still, or awaits a guest, from outside: Xen's machine is
 * QEMU's, whose memory is a file, and the wedge says where its pages are.
 */

import { readdirSync, readlinkSync, readSync, writeSync } from 'node:fs';
import { viewOf } from '../../elf/codec.ts';
import { InputError } from '../../elf/input-error.ts';
import { pageSetSize } from '../../machine/page-set.ts';
import { MACHINE_STATE, type Machine } from '../../machine/state.ts';
import { encodeMachineState } from '../../machine/state-blob.ts';
import { offsetOf } from '../../x86/struct.ts';
import type { Incoming, Written } from '../target.ts';
import type { MemoryFile } from '../told-state.ts';
import { wallTime } from '../wall-time.ts';
import {
  domainState,
  FRAME_SIZE,
  type MachineMemory,
  openPages,
  ramIn,
  scattered,
  type Told,
} from './frames.ts';

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

/** @throws InputError if there is no such memory */
function machineMemory(pid: number | undefined, memory: MemoryFile, flags: 'r' | 'r+'): MachineMemory {
  if (pid === undefined) throw new InputError('QEMU does not run');
  return { file: memory.open(memoryPath(pid), flags), place: (frame) => frame * FRAME_SIZE };
}

/** What the wedge has said of its pages. @throws InputError if it is something else */
function toldIn(words: string): Told {
  const [, root, pages] = /^machine frame (\d+), (\d+) pages of state$/.exec(words)?.map(Number) ?? [];
  if (root === undefined || pages === undefined) throw new InputError(`the wedge says "${words}"`);
  return { root, pages };
}

/**
 * Its wall time is this host's: that of Xen's machine is wrong by up to a second.
 * @throws InputError if what the wedge has said does not lead to a state
 */
export function stoppedState(
  pid: number | undefined,
  words: string,
  memory: MemoryFile,
  logged: boolean,
): Machine {
  const stoppedAt = wallTime();
  const machine = domainState(machineMemory(pid, memory, 'r'), toldIn(words), logged);
  return { ...machine, state: { ...machine.state, wall_time: stoppedAt } };
}

/** The same for the log of a guest that runs. */
export function loggedPages(
  pid: number | undefined,
  words: string,
  memory: MemoryFile,
  ramSize: number,
): Required<Written> {
  const machine = machineMemory(pid, memory, 'r');
  const { state, ram } = openPages(machine, toldIn(words));
  const pages = new Uint8Array(pageSetSize(ramSize));
  scattered(readSync, machine, state)(0, pages);
  return { ram: ramIn(machine, ram(ramSize)), pages };
}

/**
 * The place of a guest that a wedge awaits. Nothing of it has run there yet, so
 * that QEMU has translated nothing of it. The wedge has left there what time it
 * has; that of the guest is told by the same clock.
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
): Omit<Incoming, 'features'> {
  const machine = machineMemory(pid, memory, 'r+');
  const { state, ram } = openPages(machine, toldIn(words));
  const frames = ram(ramSize);
  const head = new Uint8Array(MACHINE_STATE.size);
  scattered(readSync, machine, state)(0, head);
  const ahead = viewOf(head).getBigUint64(offsetOf(MACHINE_STATE, 'wall_time'), true) - wallTime();
  const write = (to: Uint32Array, offset: number, bytes: Uint8Array): void => {
    if (memory.descriptor === machine.file) scattered(writeSync, machine, to)(offset, bytes);
  };
  return {
    write: (start, bytes) => write(frames, start, bytes),
    takeUp: (guest) => {
      const whole = encodeMachineState({
        ...guest,
        state: { ...guest.state, wall_time: guest.state.wall_time + ahead },
      });
      if (whole.length > state.length * FRAME_SIZE)
        throw new InputError('the guest and its modules have more sites than there is room for');
      write(state, 0, whole);
      goOn();
    },
  };
}
