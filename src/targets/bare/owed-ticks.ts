/**
 * Ticks of the i8254 that a guest on QEMU has missed, because it stood still,
 * came with some owed to it, or was too slow for QEMU when it went on. The wedge
 * pays them one after the other (wedge/devices/i8254.c). QEMU's i8254 has no
 * place for them, so they are paid from here: the interrupts that the processor
 * takes are counted, and while there are less than there should be, the i8259's
 * input gets a pulse, each when the one before has been taken.
 */

import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { InputError } from '../../elf/input-error.ts';
import { MOST_OWED } from '../../machine/devices.ts';
import type { MachineState } from '../../machine/state.ts';
import { wallTime } from '../wall-time.ts';
import { type Channel, edgesAt, isPeriodic, NEVER, periodTime } from './device-sections.ts';
import type { Qmp } from './qmp.ts';
import type { Qtest } from './qtest.ts';

const TIMER_INPUT = 0;
const TIMER_BIT = 1 << TIMER_INPUT;
/** What QEMU logs when the processor takes an interrupt (its hw/intc/trace-events). */
const TRACE_EVENT = 'pic_interrupt';
const TAKEN = `${TRACE_EVENT} irq ${TIMER_INPUT} `;

const MILLISECOND = 1_000_000n;
/** Nanoseconds; more is not owed to anybody. */
const LONGEST = BigInt(MOST_OWED) * 1000n * MILLISECOND;
/** Nanoseconds for which the guest must have had all its ticks until nobody looks any more. */
const SETTLED = 1000n * MILLISECOND;
/** Nanoseconds that the guest has for taking a tick before it counts as missed. */
const PATIENCE = 2n * MILLISECOND;
/** Milliseconds between two looks. */
const POLL = 1;

/** What pays. */
export interface Payer {
  /** Whether QEMU logs the interrupts that are taken. */
  log(on: boolean): Promise<void>;
  /** QEMU's log. */
  readonly file: string;
  /** One tick more, unless one is requested already. */
  tick(): Promise<void>;
}

/**
 * @param file QEMU's log
 * @throws InputError if there is no i8259 in QEMU's tree of objects
 */
export async function payerOn(qmp: Qmp, qtest: Qtest, file: string): Promise<Payer> {
  const folder = '/machine/unattached';
  const children = (await qmp.execute('qom-list', { path: folder })) as { name: string; type: string }[];
  for (const { name, type } of children) {
    const path = `${folder}/${name}`;
    if (type !== 'child<isa-i8259>' || !(await qmp.execute('qom-get', { path, property: 'master' })))
      continue;
    return {
      log: async (enable) => void (await qmp.execute('trace-event-set-state', { name: TRACE_EVENT, enable })),
      file,
      tick: () => qtest.pulse(path, TIMER_INPUT),
    };
  }
  throw new InputError('QEMU shows no i8259', 'use QEMU 7.2');
}

/** Channel 0 if the guest counts its ticks. Whether they are masked says nothing: Linux masks each while it handles it. */
function timerOf({ devices }: MachineState): Channel | undefined {
  const [timer] = devices.i8254.channels;
  if (!timer?.loaded || !timer.running || !isPeriodic(timer)) return undefined;
  return timer.reload_at === NEVER ? timer : undefined;
}

/** A guest's account, from when it goes on until it stops. */
export interface Account {
  readonly period: bigint;
  /** Ticks that it should have taken since it went on. @param time in nanoseconds, wall time */
  due(time: bigint): bigint;
}

/**
 * Pure.
 * @param goesOnAt nanoseconds since 1970-01-01 00:00:00 UTC at which the guest goes on
 * @returns undefined if it does not count ticks
 */
export function accountOf(state: MachineState, goesOnAt: bigint): Account | undefined {
  const timer = timerOf(state);
  if (!timer) return undefined;
  const period = periodTime(timer);
  const passed = goesOnAt > state.wall_time ? goesOnAt - state.wall_time : 0n;
  const missed = BigInt(state.devices.i8254.backlog) + (passed < LONGEST ? passed : LONGEST) / period;
  const requested = BigInt(state.devices.i8259[0]!.irr & TIMER_BIT);
  const before = missed + requested - timer.edges;
  return { period, due: (time) => before + edgesAt(timer, state.time + time - goesOnAt) };
}

/** The interrupts of the timer that QEMU has logged. */
class TakenTicks {
  readonly #file: number;
  #position: number;
  #rest = '';
  #count = 0n;

  constructor(path: string) {
    this.#file = openSync(path, 'r');
    this.#position = fstatSync(this.#file).size;
  }

  count(): bigint {
    const buffer = Buffer.alloc(0x1_0000);
    for (;;) {
      const length = readSync(this.#file, buffer, 0, buffer.length, this.#position);
      if (length === 0) return this.#count;
      this.#position += length;
      const lines = (this.#rest + buffer.toString('latin1', 0, length)).split('\n');
      this.#rest = lines.pop()!;
      this.#count += BigInt(lines.filter((line) => line.includes(TAKEN)).length);
    }
  }

  close(): void {
    closeSync(this.#file);
  }
}

export class OwedTicks {
  readonly #payer: Payer;
  readonly #taken: TakenTicks;
  #account: Account | undefined;
  /** Ticks that the guest has had while nobody counted them. */
  #uncounted = 0n;
  #done = Promise.resolve();
  #stopped = false;
  /** The guest has had its ticks, or never counts any. */
  #settled = false;

  private constructor(payer: Payer) {
    this.#payer = payer;
    this.#taken = new TakenTicks(payer.file);
  }

  /** For a guest that stands still: begins to count. */
  static async open(payer: Payer): Promise<OwedTicks> {
    await payer.log(true);
    return new OwedTicks(payer);
  }

  /** @param account of the guest, which goes on now; the one it had, if there is none */
  pay(account = this.#account): void {
    this.#account = account;
    // Fails when QEMU has ended, which is seen elsewhere.
    this.#done = (account ? this.#follow(account) : this.#settle()).catch(() => {});
  }

  /** Ticks. */
  #owedAt(account: Account, time: bigint): bigint {
    return account.due(time) - this.#uncounted - this.#taken.count();
  }

  async #follow(account: Account): Promise<void> {
    const owed = (): bigint => this.#owedAt(account, wallTime() - PATIENCE);
    // A guest that sets its timer anew owes itself what it misses: no account holds for ever.
    let credit = owed() + (2n * SETTLED) / account.period;
    let good = wallTime();
    while (!this.#stopped && credit > 0n && wallTime() - good < SETTLED) {
      if (owed() <= 0n) {
        await sleep(POLL);
        continue;
      }
      good = wallTime();
      const before = this.#taken.count();
      await this.#payer.tick();
      credit--;
      while (!this.#stopped && this.#taken.count() === before && wallTime() - good < 2n * PATIENCE)
        await sleep(POLL);
    }
    if (!this.#stopped) await this.#settle();
  }

  async #settle(): Promise<void> {
    this.#settled = true;
    await this.#payer.log(false);
  }

  /** Pays no more. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#done;
  }

  /**
   * For a guest that has stopped: the nanoseconds that it is still owed.
   * @param stoppedAt in nanoseconds, at which it did
   */
  owed(stoppedAt: bigint): bigint {
    const account = this.#account;
    if (!account || this.#settled) return 0n;
    const ticks = this.#owedAt(account, stoppedAt);
    return ticks > 0n ? ticks * account.period : 0n;
  }

  /**
   * For a guest that has stopped, and whose state cannot be had: begins to count
   * again. The account that it has is by wall time, so what passes until it goes
   * on is in it.
   */
  async reopen(stoppedAt: bigint): Promise<void> {
    if (this.#account && this.#settled) this.#uncounted = this.#account.due(stoppedAt) - this.#taken.count();
    this.#settled = false;
    this.#stopped = false;
    await this.#payer.log(true);
  }

  async close(): Promise<void> {
    this.#taken.close();
    if (!this.#settled) await this.#payer.log(false);
  }
}
