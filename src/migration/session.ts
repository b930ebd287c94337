/**
 * A guest and the target that it runs on, which may become another one. The
 * session owns the console: what is typed goes to the guest wherever it is, and
 * waits while it moves.
 *
 * There are never two running copies. The source stands still until the target
 * has said that the guest runs there, and goes on if it does not.
 */

import { PassThrough } from 'node:stream';
import { setImmediate as breathe } from 'node:timers/promises';
import { InputError } from '../elf/input-error.ts';
import { checkFeatures, type Features } from '../machine/features.ts';
import type { Machine } from '../machine/state.ts';
import type { Reburned } from '../targets/command.ts';
import type { GuestConsole, Incoming, RunningGuest, RunStatus } from '../targets/target.ts';
import { firstOf, patiently, within } from '../targets/waiting.ts';
import type { DomainName } from '../x86/site-kinds.ts';
import { copyAll, copyPages, copyRounds, type Round } from './rounds.ts';

/** What a run gets of the session. */
export interface Surroundings {
  readonly console: GuestConsole;
  /** Is given the guest once it runs. */
  readonly attach: (guest: RunningGuest) => void;
  /** Aborting it ends the guest. */
  readonly signal: AbortSignal;
}

/** Starts a run, or takes up a guest. */
export type Start = (surroundings: Surroundings) => Promise<RunStatus>;

/**
 * Where a guest can go on: a run that awaits it, and gives `ready` its place, with signs of life
 * before, if that takes its time; or one that starts when it stands still.
 */
export type Destination =
  | { receive(ready: (incoming: Incoming) => void, lives: () => void): Start }
  | { resume(machine: Machine): Start; readonly features?: Features | undefined };

export interface Stopped {
  /** How long the guest stood still at most, in milliseconds: from when it was told to stop. */
  readonly stopped: number;
}

export interface Moved extends Stopped {
  /** What was copied before, while it ran; empty where that cannot be. */
  readonly rounds: readonly Round[];
}

/** Whoever wants a guest to move. */
export interface Asked {
  /** Is told of what is copied while the guest runs. */
  tell(round: Round): void;
  /** Aborted, with the reason, when nobody wants it any more. */
  readonly calledOff: AbortSignal;
}

/** Milliseconds that a target has to say something before it awaits a guest, or to take it up. */
const PATIENCE = 120_000;
const NOT_THERE = `the guest does not run there after ${PATIENCE / 1000} s`;
const NOT_AWAITED = `nothing has been heard from there for ${PATIENCE / 1000} s`;

/** Milliseconds for BLOCK_SIZE bytes at most, while the guest stands still. */
const STALL = 30_000;
const STALLED = `nothing of the guest was taken there for ${STALL / 1000} s`;

/** Milliseconds that a run has to end when its guest runs elsewhere. */
const FAREWELL = 10_000;

/** Bytes that are kept of what is typed while nobody can read it. */
const TYPED = 2 ** 16;

/** One run of the guest. */
class Run {
  readonly input = new PassThrough();
  readonly ended: Promise<RunStatus>;
  readonly #guest: Promise<RunningGuest>;
  readonly #killer = new AbortController();

  constructor(start: Start, console: GuestConsole, signal: AbortSignal) {
    let attach: (guest: RunningGuest) => void;
    this.#guest = new Promise((resolve) => {
      attach = resolve;
    });
    this.ended = start({
      console: { ...console, input: this.input },
      attach: (guest) => attach(guest),
      signal: AbortSignal.any([signal, this.#killer.signal]),
    });
    this.ended.catch(() => {}); // Whoever waits for the run is told.
  }

  /** @throws InputError if the run ends before, and why it could not be */
  async ask<T>(question: (guest: RunningGuest) => T | Promise<T>): Promise<T> {
    const gone = this.ended.then(() => {
      throw new InputError('the guest has ended');
    });
    return Promise.race([this.#guest.then(question), gone]);
  }

  /** Ends it, wherever it is, since it is of no use after `error`. What is to be told: its own reason, if it has ended before. */
  async kill(error: unknown): Promise<unknown> {
    const silent = this.ended.then(
      () => undefined,
      (own) => own as unknown,
    );
    const own = await Promise.race([silent, breathe(undefined)]);
    this.#killer.abort();
    await silent;
    return own ?? error;
  }

  /** Ends it; it stands still. If it has ended by itself meanwhile, that is as good. */
  async letGo(): Promise<void> {
    await this.ask((guest) => guest.letGo()).catch(() => {});
    await within(FAREWELL, this.ended, 'it does not end').catch(() => this.#killer.abort());
    await this.ended.catch(() => {});
  }
}

/** A run that awaits the guest, and what of it is there already. */
interface Ahead {
  readonly target: Run;
  readonly incoming: Incoming;
  readonly rounds: readonly Round[];
}

export class Session {
  readonly #console: GuestConsole;
  readonly #signal: AbortSignal;
  #run: Run;
  #closed = false;
  /** What has been typed while the guest stands still or moves. */
  #typed: Buffer[] | undefined;
  /** Settled when that has been passed on. */
  #passedOn: Promise<unknown> = Promise.resolve();
  #turn: Promise<unknown> = Promise.resolve();

  /** Aborting `signal` ends the guest. */
  constructor(start: Start, console: GuestConsole, signal: AbortSignal) {
    this.#console = console;
    this.#signal = signal;
    this.#run = new Run(start, console, signal);
  }

  /**
   * Something was typed; nothing more will be if it is undefined.
   * @returns what is fulfilled when there is room for more, if there is none
   */
  type(bytes: Buffer | undefined): Promise<unknown> | undefined {
    const { input, ended } = this.#run;
    if (bytes === undefined) {
      this.#closed = true;
      if (!this.#typed) input.end();
      return undefined;
    }
    if (this.#typed) {
      this.#typed.push(bytes);
      const size = this.#typed.reduce((sum, { length }) => sum + length, 0);
      return size > TYPED ? this.#passedOn : undefined;
    }
    if (input.write(bytes)) return undefined;
    return Promise.race([firstOf(input, 'drain'), ended]).catch(() => {});
  }

  /** What is typed while `act` goes on comes after it, wherever the guest is then: the wedge is listening for orders. */
  async #withheld<T>(act: () => Promise<T>): Promise<T> {
    let over: (value: unknown) => void = () => {};
    this.#typed = [];
    this.#passedOn = new Promise((resolve) => {
      over = resolve;
    });
    try {
      return await act();
    } finally {
      const typed = this.#typed;
      this.#typed = undefined;
      for (const bytes of typed) this.#run.input.write(bytes);
      if (this.#closed) this.#run.input.end();
      over(undefined);
    }
  }

  /** Until the guest ends, wherever it is by then. */
  async ended(): Promise<RunStatus> {
    for (;;) {
      const run = this.#run;
      await run.ended.catch(() => {});
      await this.#turn.catch(() => {});
      // Even if that one was killed as it was let go.
      if (run === this.#run) return run.ended;
    }
  }

  /** One request after the other. */
  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(act, act);
    this.#turn = result.catch(() => {});
    return result;
  }

  /** Burns all sites again. @throws InputError with the wedge's reason if it refuses */
  reburn(domains: readonly DomainName[]): Promise<Reburned> {
    return this.#inTurn(() => this.#run.ask((guest) => guest.reburn(domains)));
  }

  /**
   * Lets `look` have the state of the guest, which stands still meanwhile.
   * @param end whether it ends then; else, and if `look` fails or it is called off, it goes on
   */
  standStill<T>(
    look: (machine: Machine) => Promise<T> | T,
    { end, calledOff }: { readonly end: boolean } & Pick<Asked, 'calledOff'>,
  ): Promise<T & Stopped> {
    const act = async (): Promise<T & Stopped> => {
      const run = this.#run;
      const since = performance.now();
      const machine = await run.ask((guest) => guest.stop());
      let ends = false;
      try {
        const result = await look(machine);
        await breathe(); // What came meanwhile is heard.
        calledOff.throwIfAborted();
        ends = end;
        return { ...result, stopped: performance.now() - since };
      } finally {
        // Whoever asked is answered before the run has ended.
        await run.ask((guest) => (ends ? guest.letGo() : guest.goOn()));
      }
    };
    return this.#inTurn(() => {
      calledOff.throwIfAborted();
      return this.#withheld(act);
    });
  }

  #begin(start: Start): Run {
    return new Run(start, this.#console, this.#signal);
  }

  /**
   * Starts the run that is to take up the guest, and copies its memory there while it runs, where that can be.
   * @throws InputError if it does not arrive, or is called off: nothing is left of it then
   */
  async #goAhead(to: Destination, { tell, calledOff }: Asked): Promise<Ahead | undefined> {
    if (!('receive' in to)) {
      if (to.features) await this.#checkFeatures(to.features);
      return undefined;
    }
    let target: Run | undefined;
    try {
      const incoming = await patiently(
        PATIENCE,
        (lives) =>
          new Promise<Incoming>((ready, gone) => {
            target = this.#begin(to.receive(ready, lives));
            target.ended.then(() => gone(new InputError('the guest has ended')), gone);
            calledOff.addEventListener('abort', () => gone(calledOff.reason), { once: true });
          }),
        NOT_AWAITED,
      );
      await this.#checkFeatures(incoming.features);
      const rounds = await this.#copy(incoming, { tell, calledOff });
      calledOff.throwIfAborted();
      return { target: target!, incoming, rounds };
    } catch (error) {
      throw await target?.kill(error);
    }
  }

  /** @throws InputError naming what the guest knows of and a processor lacks */
  async #checkFeatures(available: Features): Promise<void> {
    checkFeatures(await this.#run.ask((guest) => guest.features()), available);
  }

  /** Copies in rounds, if the guest's memory can be had while it runs. */
  async #copy(to: Incoming, { tell, calledOff }: Asked): Promise<readonly Round[]> {
    const source = this.#run;
    if (!(await source.ask((guest) => guest.written))) return [];
    const written = () => source.ask((guest) => guest.written!());
    const write: Incoming['write'] = (start, bytes) => {
      calledOff.throwIfAborted();
      return to.write(start, bytes);
    };
    try {
      return await copyRounds(written, { write }, tell);
    } catch (error) {
      await source.ask((guest) => guest.forgetWritten!());
      throw error;
    }
  }

  /** @throws InputError if it does not stand still; what was copied ahead is gone then */
  async #stop(ahead: Ahead | undefined): Promise<Machine> {
    try {
      return await this.#run.ask((guest) => guest.stop());
    } catch (error) {
      await ahead?.target.kill(error);
      await this.#run.ask((guest) => guest.forgetWritten?.());
      throw error;
    }
  }

  /** Brings the rest of the guest, which stands still, to where it is awaited. @throws InputError if it does not arrive */
  async #bring({ ram, written, ...rest }: Machine, to: Incoming, calledOff: AbortSignal): Promise<void> {
    const write: Incoming['write'] = (start, bytes) => {
      calledOff.throwIfAborted();
      const taken = to.write(start, bytes);
      return taken && within(STALL, taken, STALLED);
    };
    await (written ? copyPages(ram, written, { write }) : copyAll(ram, { write }));
    // From here on it may come to run there.
    calledOff.throwIfAborted();
    await within(PATIENCE, Promise.resolve(to.takeUp(rest)), NOT_THERE);
  }

  /** The run that takes up the guest, which stands still. */
  async #land(
    machine: Machine,
    to: Destination,
    ahead: Ahead | undefined,
    calledOff: AbortSignal,
  ): Promise<Run> {
    const target = 'receive' in to ? ahead!.target : this.#begin(to.resume(machine));
    try {
      if (ahead) await this.#bring(machine, ahead.incoming, calledOff);
      await within(
        PATIENCE,
        target.ask(() => {}),
        NOT_THERE,
      );
      return target;
    } catch (error) {
      throw await target.kill(error);
    }
  }

  /**
   * Moves the guest to another run.
   * @throws InputError if it could not be taken up there, or is called off before all of it is there: it goes on where it was
   */
  move(to: Destination, asked: Asked): Promise<Moved> {
    return this.#inTurn(async () => {
      const source = this.#run;
      asked.calledOff.throwIfAborted();
      const ahead = await this.#goAhead(to, asked).catch(didNotGoOn);
      return this.#withheld(async () => {
        const since = performance.now();
        const machine = await this.#stop(ahead);
        try {
          this.#run = await this.#land(machine, to, ahead, asked.calledOff);
        } catch (error) {
          await source.ask((guest) => guest.goOn());
          return didNotGoOn(error as Error);
        }
        const stopped = performance.now() - since;
        await source.letGo();
        return { stopped, rounds: ahead?.rounds ?? [] };
      });
    });
  }
}

function didNotGoOn(error: Error): never {
  const advice = error instanceof InputError ? error.advice : undefined;
  throw new InputError(`it did not go on there: ${error.message}`, advice);
}
