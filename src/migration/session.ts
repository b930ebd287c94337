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
import {
  END_COMMAND,
  GO_ON_COMMAND,
  type Reburned,
  reburnAnswer,
  STOP_COMMAND,
  stateAnswer,
} from '../targets/command.ts';
import type { Commands, GuestConsole, RunningGuest, RunStatus } from '../targets/target.ts';
import type { DomainName } from '../x86/site-kinds.ts';

/** What a run gets of the session. */
export interface Surroundings {
  readonly console: GuestConsole;
  readonly commands: Commands;
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

/** How a message of the wedge begins. */
const MESSAGE = 'previrt: ';

/** One run, and the questions that its wedge has been asked. */
class Run {
  readonly input = new PassThrough();
  readonly ended: Promise<RunStatus>;
  readonly #guest: Promise<RunningGuest>;
  #words: string | undefined;
  readonly #killer = new AbortController();
  #hear: (line: string) => void = () => {};

  constructor(start: Start, console: GuestConsole, signal: AbortSignal) {
    let attach: (guest: RunningGuest) => void;
    this.#guest = new Promise((resolve) => {
      attach = resolve;
    });
    this.ended = start({
      console: { ...console, input: this.input },
      commands: { attach: (guest) => attach(guest), heard: (line) => this.#heard(line) },
      signal: AbortSignal.any([signal, this.#killer.signal]),
    });
    this.ended.catch(() => {}); // Whoever waits for the run is told.
  }

  #heard(line: string): void {
    if (line.startsWith(MESSAGE)) this.#words = line.slice(MESSAGE.length);
    this.#hear(line);
  }

  /** The first answer that `answer` finds in what the wedge says. @throws InputError if the run ends before */
  async ask<T>(send: (guest: RunningGuest) => void, answer: (line: string) => T | undefined): Promise<T> {
    const gone = this.ended.then(
      () => {
        throw new InputError('the guest has ended');
      },
      (error: unknown) => {
        throw error;
      },
    );
    const said = new Promise<T>((resolve) => {
      this.#hear = (line) => {
        const found = answer(line);
        if (found !== undefined) resolve(found);
      };
    });
    try {
      send(await Promise.race([this.#guest, gone]));
      return await Promise.race([said, gone]);
    } finally {
      this.#hear = () => {};
    }
  }

  async stop(): Promise<Machine> {
    const answer = await this.ask((guest) => guest.send(STOP_COMMAND), stateAnswer);
    if ('refused' in answer) throw new InputError(answer.refused);
    if (!('stopped' in answer)) throw new InputError('the wedge does not stand still');
    return (await this.#guest).state(answer.stopped);
  }

  /** Waits until the guest runs, after a command if there is one. */
  async goesOn(command?: Uint8Array): Promise<void> {
    await this.ask(
      (guest) => command && guest.send(command),
      (line) => {
        const answer = stateAnswer(line);
        return answer && 'goesOn' in answer ? true : undefined;
      },
    );
  }

  /** The last that its wedge has said. */
  get words(): string | undefined {
    return this.#words;
  }

  /** Ends it, wherever it is. */
  async kill(): Promise<void> {
    this.#killer.abort();
    await this.ended.catch(() => {});
  }

  /** Ends it; it stands still. */
  async letGo(): Promise<void> {
    (await this.#guest).send(END_COMMAND);
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
    return this.#inTurn(async () => {
      const answer = await this.#run.ask((guest) => guest.reburn(domains), reburnAnswer);
      if (typeof answer === 'string') throw new InputError(answer);
      return answer;
    });
  }

  /** Lets `look` have the state of the guest, which stands still meanwhile and goes on then, whatever happens. */
  standStill<T>(look: (machine: Machine) => Promise<T> | T): Promise<T & Moved> {
    return this.#inTurn(async () => {
      const run = this.#run;
      const machine = await run.stop();
      const since = performance.now();
      try {
        const result = await look(machine);
        return { ...result, stopped: performance.now() - since };
      } finally {
        await run.goesOn(GO_ON_COMMAND);
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
        const machine = await source.stop();
        const since = performance.now();
        const target = new Run(resume(machine), this.#console, this.#signal);
        try {
          await within(PATIENCE, target.goesOn());
        } catch (error) {
          await target.kill();
          await source.goesOn(GO_ON_COMMAND);
          throw new InputError(`it did not go on there: ${target.words ?? (error as Error).message}`);
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
