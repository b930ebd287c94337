/** A guest on QEMU that runs: what can be asked of it, through QEMU's control socket and its migration stream. */

import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as breathe, setTimeout as sleep } from 'node:timers/promises';
import { InputError } from '../../elf/input-error.ts';
import type { Features } from '../../machine/features.ts';
import type { Stopped } from '../../machine/linux-modules.ts';
import { moduleSites } from '../../machine/module-sites.ts';
import type { Machine, MachineState } from '../../machine/state.ts';
import type { OwnedPatchEntry } from '../../sites/patch-table.ts';
import type { GuestVirtual } from '../../x86/address.ts';
import { ANNOUNCEMENTS, SITE_KINDS } from '../../x86/site-kinds.ts';
import type { Reburned } from '../command.ts';
import type { RunningGuest } from '../target.ts';
import { wallTime } from '../wall-time.ts';
import { endOfFile } from './end-of-file.ts';
import { readStream } from './migration-stream.ts';
import { accountOf, OwedTicks, type Payer } from './owed-ticks.ts';
import { toMachineState } from './pc-state.ts';
import type { Qmp } from './qmp.ts';

/** What is known of a guest's kernel, which nothing in it tells. */
export interface Known {
  /** Bytes of its RAM. */
  readonly ramSize: number;
  /** What user code can see of the processor. */
  readonly features: Features;
  /** The kernel's own. */
  readonly sites: readonly OwnedPatchEntry[];
  /** Guest-virtual minus guest-physical address, as linked. */
  readonly linkOffset: number;
  /** Linux' list of modules, if it is known. */
  readonly modules: GuestVirtual | undefined;
}

const ANNOUNCES: ReadonlySet<number> = new Set(ANNOUNCEMENTS.map((kind) => SITE_KINDS[kind].id));

/**
 * The sites of modules, whether they came along or were loaded here, where nobody is told.
 * @throws InputError if they cannot be had
 */
function modulesOf(machine: Stopped, { sites, modules }: Known): OwnedPatchEntry[] {
  if (modules !== undefined) return moduleSites(machine, modules, sites);
  if (!sites.some(({ kind }) => ANNOUNCES.has(kind))) return [];
  throw new InputError(
    'where the guest has its list of modules is not known, so nobody can tell their sites',
    'give its kernel with symbols, with --kernel where it was resumed',
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

/** The stream that a stopped QEMU writes, through a file in a folder, which is not left. */
export async function writeStream(qmp: Qmp, folder: string): Promise<Uint8Array> {
  const file = join(folder, 'outgoing');
  try {
    await qmp.execute('migrate-set-parameters', { 'max-bandwidth': BANDWIDTH });
    await qmp.execute('migrate', { uri: `exec:cat > ${word(file)}` });
    await migrated(qmp);
    return endOfFile(file);
  } finally {
    rmSync(file, { force: true });
  }
}

/** Gives a stream in a file, which is not left, to a QEMU that waits for it (`-incoming defer`). */
export async function takeStream(qmp: Qmp, file: string): Promise<void> {
  await qmp.execute('migrate-incoming', { uri: `exec:cat ${word(file)}` });
  await migrated(qmp);
  rmSync(file);
}

/** What a guest on QEMU is reached by. */
export interface Machinery {
  readonly qmp: Qmp;
  readonly payer: Payer;
  /** For its streams. */
  readonly folder: string;
  /** Waits until the guest has read what was typed before, as long as it reads. */
  readonly read: () => Promise<void>;
  /** Ends QEMU. */
  readonly end: () => void;
}

export class QemuGuest implements RunningGuest {
  readonly #machinery: Machinery;
  readonly #known: Known;
  #ticks: OwedTicks | undefined;
  /** While it stands still. */
  #stopped: MachineState | undefined;

  /** @param stopped as which it waits to go on */
  constructor(machinery: Machinery, known: Known, stopped?: MachineState) {
    this.#machinery = machinery;
    this.#known = known;
    this.#stopped = stopped;
  }

  async features(): Promise<Features> {
    return this.#known.features;
  }

  async reburn(): Promise<Reburned> {
    throw new InputError('bare runs the kernel as it is: there is nothing to burn');
  }

  async stop(): Promise<Machine> {
    const { qmp, folder, read } = this.#machinery;
    await breathe(); // What was typed before has come as far as that.
    await read();
    await this.#ticks?.stop();
    await qmp.execute('stop');
    // QEMU sends the event as the clocks stop, and answers when the disk has been flushed.
    const stoppedAt = qmp.eventTime('STOP') ?? wallTime();
    const owed = this.#ticks?.owed(stoppedAt) ?? 0n;
    const { ramSize, linkOffset, features } = this.#known;
    const stopped = { ramSize, wallTime: stoppedAt, owed, linkOffset, features };
    try {
      const stream = readStream(await writeStream(qmp, folder));
      const machine = toMachineState(stream, stopped);
      this.#stopped = machine.state;
      await this.#ticks?.close();
      this.#ticks = undefined;
      return { ...machine, sites: [...this.#known.sites, ...modulesOf(machine, this.#known)] };
    } catch (error) {
      if (!this.#stopped) await this.#ticks?.reopen(stoppedAt);
      await this.goOn();
      throw error;
    }
  }

  async goOn(): Promise<void> {
    const { qmp, payer } = this.#machinery;
    const stopped = this.#stopped;
    if (stopped) this.#ticks = await OwedTicks.open(payer);
    await qmp.execute('cont');
    const resumedAt = qmp.eventTime('RESUME') ?? wallTime();
    this.#ticks?.pay(stopped && accountOf(stopped, resumedAt));
    this.#stopped = undefined;
  }

  letGo(): void {
    this.#machinery.end();
  }
}
