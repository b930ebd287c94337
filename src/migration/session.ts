/**
 * A guest and the target that it runs on, which may become another one. The
 * session owns the console: what is typed goes to the guest wherever it is, and
 * waits while it moves.
 *
 * There are never two running copies. The source stands still until the target
 * has said that the guest runs there, and goes on if it does not.
 */

import { PassThrough } from 'node:stream';
import { InputError } from '../elf/input-error.ts';
import type { Machine } from '../machine/state.ts';
import type { Reburned } from '../targets/command.ts';
import type { GuestConsole, RunningGuest, RunStatus } from '../targets/target.ts';
import type { DomainName } from '../x86/site-kinds.ts';

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

export interface Moved {
  /** How long the guest stood still, in milliseconds. */
  readonly stopped: number;
}

/** Milliseconds that a target has to take up a guest. */
const PATIENCE = 120_000;

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

  /** Ends it, wherever it is. */
  async kill(): Promise<void> {
    this.#killer.abort();
    await this.ended.catch(() => {});
  }

  /** Ends it; it stands still. */
  async letGo(): Promise<void> {
    await this.ask((guest) => guest.letGo());
    await this.ended;
  }
}

export class Session {
  readonly #console: GuestConsole;
  readonly #signal: AbortSignal;
  #run: Run;
  #closed = false;
  /** What has been typed while the guest moves. */
  #typed: Buffer[] | undefined;
  #turn: Promise<unknown> = Promise.resolve();

  /** Aborting `signal` ends the guest. */
  constructor(start: Start, console: GuestConsole, signal: AbortSignal) {
    this.#console = console;
    this.#signal = signal;
    this.#run = new Run(start, console, signal);
  }

  /** Something was typed; nothing more will be if it is undefined. */
  type(bytes: Buffer | undefined): void {
    if (bytes === undefined) this.#closed = true;
    if (bytes === undefined) this.#run.input.end();
    else if (this.#typed) this.#typed.push(bytes);
    else this.#run.input.write(bytes);
  }

  /** Until the guest ends, wherever it is by then. */
  async ended(): Promise<RunStatus> {
    for (;;) {
      const run = this.#run;
      const status = await run.ended;
      await this.#turn.catch(() => {});
      if (run === this.#run) return status;
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

  /** Lets `look` have the state of the guest, which stands still meanwhile and goes on then, whatever happens. */
  standStill<T>(look: (machine: Machine) => Promise<T> | T): Promise<T & Moved> {
    return this.#inTurn(async () => {
      const run = this.#run;
      const machine = await run.ask((guest) => guest.stop());
      const since = performance.now();
      try {
        const result = await look(machine);
        return { ...result, stopped: performance.now() - since };
      } finally {
        await run.ask((guest) => guest.goOn());
      }
    });
  }

  /**
   * Moves the guest to another run, which `resume` starts.
   * @throws InputError if it could not be taken up there: it goes on where it was
   */
  move(resume: (machine: Machine) => Start): Promise<Moved> {
    return this.#inTurn(async () => {
      const source = this.#run;
      this.#typed = [];
      try {
        const machine = await source.ask((guest) => guest.stop());
        const since = performance.now();
        const target = new Run(resume(machine), this.#console, this.#signal);
        try {
          await within(
            PATIENCE,
            target.ask(() => {}),
          );
        } catch (error) {
          await target.kill();
          await source.ask((guest) => guest.goOn());
          throw new InputError(`it did not go on there: ${(error as Error).message}`);
        }
        this.#run = target;
        const stopped = performance.now() - since;
        await source.letGo();
        return { stopped };
      } finally {
        const typed = this.#typed;
        this.#typed = undefined;
        for (const bytes of typed) this.#run.input.write(bytes);
        if (this.#closed) this.#run.input.end();
      }
    });
  }
}

/** @throws InputError after `limit` milliseconds */
async function within<T>(limit: number, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new InputError(`the guest does not run there after ${limit / 1000} s`)),
      limit,
    );
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
