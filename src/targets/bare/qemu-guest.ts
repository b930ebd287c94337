/** A guest on QEMU that runs: what can be asked of it, through QEMU's control socket and its migration stream. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { viewOf } from '../../elf/codec.ts';
import { InputError } from '../../elf/input-error.ts';
import type { Ram } from '../../machine/ram.ts';
import type { Machine } from '../../machine/state.ts';
import type { OwnedPatchEntry } from '../../sites/patch-table.ts';
import { type GuestVirtual, guestPhysical } from '../../x86/address.ts';
import type { Reburned } from '../command.ts';
import type { RunningGuest } from '../target.ts';
import { readStream } from './migration-stream.ts';
import { toMachineState } from './pc-state.ts';
import type { Qmp } from './qmp.ts';

/** What is known of a guest's kernel, which nothing in it tells. */
export interface Known {
  readonly sites: readonly OwnedPatchEntry[];
  /** Guest-virtual minus guest-physical address, as linked. */
  readonly linkOffset: number;
  /** Linux' list of modules, if it can have some. */
  readonly modules?: { readonly list: GuestVirtual; readonly first: number } | undefined;
}

/** The newest module in a list, or the list itself: guest-virtual. */
export function firstModule(ram: Ram, list: GuestVirtual, linkOffset: number): number {
  const head = new Uint8Array(4);
  ram.read(guestPhysical(list - linkOffset), head);
  return viewOf(head).getUint32(0, true);
}

/** @throws InputError if modules were loaded: nobody has told where their sites are */
function checkModules({ ram }: Machine, { modules, linkOffset }: Known): void {
  if (modules && ![0, modules.first].includes(firstModule(ram, modules.list, linkOffset)))
    throw new InputError(
      'the guest has loaded modules on bare metal, where nobody is told of their sites',
      'unload them first',
    );
}

/** Milliseconds between two looks at whether QEMU is done. */
const POLL = 5;
/** Bytes a second: as fast as it goes. */
const BANDWIDTH = 2 ** 40;

/** A path as one word of the shell that QEMU runs `exec:` with. */
const word = (path: string): string => `'${path.replaceAll("'", "'\\''")}'`;

/** @throws InputError if QEMU could not migrate */
async function migrated(qmp: Qmp): Promise<void> {
  for (;;) {
    const { status } = (await qmp.execute('query-migrate')) as { status?: string };
    if (status === 'completed') return;
    if (status === 'failed') throw new InputError('QEMU could not migrate the machine');
    await sleep(POLL);
  }
}

/** The stream that a stopped QEMU writes, through a file in a folder. */
export async function writeStream(qmp: Qmp, folder: string): Promise<Uint8Array> {
  const file = join(folder, 'outgoing');
  await qmp.execute('migrate-set-parameters', { 'max-bandwidth': BANDWIDTH });
  await qmp.execute('migrate', { uri: `exec:cat > ${word(file)}` });
  await migrated(qmp);
  return readFileSync(file);
}

/** Gives a stream in a file to a QEMU that waits for it (`-incoming defer`). */
export async function takeStream(qmp: Qmp, file: string): Promise<void> {
  await qmp.execute('migrate-incoming', { uri: `exec:cat ${word(file)}` });
  await migrated(qmp);
}

/** Now, in nanoseconds since 1970-01-01 00:00:00 UTC. */
export const wallTime = (): bigint => BigInt(Date.now()) * 1_000_000n;

export class QemuGuest implements RunningGuest {
  readonly #qmp: Qmp;
  readonly #folder: string;
  readonly #known: Known;
  readonly #end: () => void;

  /** @param end ends QEMU */
  constructor(qmp: Qmp, folder: string, known: Known, end: () => void) {
    this.#qmp = qmp;
    this.#folder = folder;
    this.#known = known;
    this.#end = end;
  }

  async reburn(): Promise<Reburned> {
    throw new InputError('bare runs the kernel as it is: there is nothing to burn');
  }

  async stop(): Promise<Machine> {
    await this.#qmp.execute('stop');
    const stopped = { wallTime: wallTime(), linkOffset: this.#known.linkOffset };
    try {
      const stream = readStream(await writeStream(this.#qmp, this.#folder));
      const machine = { ...toMachineState(stream, stopped), sites: this.#known.sites };
      checkModules(machine, this.#known);
      return machine;
    } catch (error) {
      await this.goOn();
      throw error;
    }
  }

  async goOn(): Promise<void> {
    await this.#qmp.execute('cont');
  }

  letGo(): void {
    this.#end();
  }
}
