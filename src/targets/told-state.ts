/**
 * The state of a guest that stands still, as its wedge tells it: MACHINE_STATE
 * and the patch table's entries, one after the other in memory that the target
 * can read.
 */

import { closeSync, openSync } from 'node:fs';
import { viewOf } from '../elf/codec.ts';
import { InputError } from '../elf/input-error.ts';
import { pageSetSize } from '../machine/page-set.ts';
import type { Ram } from '../machine/ram.ts';
import { MACHINE_STATE, type Machine } from '../machine/state.ts';
import { decodeMachineState } from '../machine/state-blob.ts';
import {
  PATCH_COPY,
  PATCH_ENTRY,
  PATCH_GUESTS,
  PATCH_NOT_BURNED,
  PATCH_TRAPS,
} from '../sites/patch-table.ts';
import { offsetOf } from '../x86/struct.ts';

/** More sites than any kernel has with its modules. */
const MOST_SITES = 1 << 20;

const ENTRY = offsetOf(PATCH_ENTRY, 'entry');
const NEXT = offsetOf(PATCH_ENTRY, 'next');
/** What stays of how a site was burned: whether it is the guest's own by now, or was never annotated. */
const LASTING: readonly number[] = [PATCH_GUESTS, PATCH_TRAPS];

/** Takes out of the entries what this target had burned. Where the kernel has not copied a trap to yet, it still may. */
function forgetBurned(entries: Uint8Array): void {
  const view = viewOf(entries);
  for (let offset = 0; offset < entries.length; offset += PATCH_ENTRY.size) {
    const was = view.getUint32(offset + NEXT, true);
    const awaited = was === PATCH_GUESTS && view.getUint16(offset + ENTRY, true) === PATCH_COPY;
    if (!awaited) view.setUint16(offset + ENTRY, LASTING.includes(was) ? was : PATCH_NOT_BURNED, true);
    view.setUint32(offset + NEXT, 0, true);
  }
}

/** A guest's memory, opened when it is first asked for. */
export class MemoryFile {
  #descriptor: number | undefined;

  /** @throws the system's error if it cannot be opened */
  open(path: string, flags: 'r' | 'r+' = 'r'): number {
    this.#descriptor ??= openSync(path, flags);
    return this.#descriptor;
  }

  /** @throws InputError unless it is open */
  get descriptor(): number {
    if (this.#descriptor === undefined) throw new InputError('it has ended');
    return this.#descriptor;
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }
}

/**
 * @param logged whether the log's pages are told behind it
 * @param read fills `into` with what is told from an offset on
 * @throws InputError if it is not told in this version's words
 */
export function toldState(
  read: (offset: number, into: Uint8Array) => void,
  ram: Ram,
  logged = false,
): Machine {
  const head = new Uint8Array(MACHINE_STATE.size);
  read(0, head);
  const word = (field: string): number => viewOf(head).getUint32(offsetOf(MACHINE_STATE, field), true);
  const count = word('site_count') + word('module_site_count');
  if (count > MOST_SITES) throw new InputError(`the wedge tells of ${count} sites`);
  const whole = new Uint8Array(MACHINE_STATE.size + count * PATCH_ENTRY.size);
  read(0, whole);
  forgetBurned(whole.subarray(MACHINE_STATE.size));
  const machine = { ...decodeMachineState(whole), ram };
  if (!logged) return machine;
  const written = new Uint8Array(pageSetSize(ram.size));
  read(whole.length, written);
  return { ...machine, written };
}
