/**
 * A running guest with a wedge in it: what is asked goes with the console's
 * input (command.ts), answers come among the wedge's messages.
 */

import { InputError } from '../elf/input-error.ts';
import type { Features } from '../machine/features.ts';
import type { Machine } from '../machine/state.ts';
import type { DomainName } from '../x86/site-kinds.ts';
import {
  END_COMMAND,
  FEATURES_COMMAND,
  featuresAnswer,
  GO_ON_COMMAND,
  LOG_COMMAND,
  LOG_END_COMMAND,
  logAnswer,
  type Reburned,
  reburnAnswer,
  reburnCommand,
  STOP_COMMAND,
  stateAnswer,
} from './command.ts';
import type { RunningGuest, Written } from './target.ts';
import { within } from './waiting.ts';

export interface WedgeWire {
  /** To the wedge. */
  send(command: Uint8Array): void;
  /** Of domains that are asked for, those that the target substitutes. */
  domains(asked: readonly DomainName[]): readonly DomainName[];
  /**
   * The state of the guest, once its wedge has said `stopped` with these words.
   * @param logged whether it has kept a log
   * @throws InputError if it cannot be had
   */
  state(words: string, logged: boolean): Machine;
  /** The same for the log alone: once it has said `logged`. */
  log(words: string): Required<Written>;
}

/** Milliseconds that a wedge has to answer: it is heard when the guest idles or its timer ticks. */
const PATIENCE = 30_000;
const SILENT = `the guest does not come to its wedge: no answer for ${PATIENCE / 1000} s`;

/** How a message of the wedge begins. */
const MESSAGE = 'previrt: ';

export class WedgeGuest implements RunningGuest {
  readonly #wire: WedgeWire;
  readonly #attach: (guest: RunningGuest) => void;
  #awaited: ((line: string) => void) | undefined;
  #attached = false;
  #logs = false;
  #words = 'the wedge has said nothing';

  /** @param starts whether it runs from the start; a guest that goes on runs when its wedge has said so */
  constructor(wire: WedgeWire, attach: (guest: RunningGuest) => void, starts: boolean) {
    this.#wire = wire;
    this.#attach = attach;
    if (starts) this.#runs();
  }

  #runs(): void {
    if (!this.#attached) this.#attach(this);
    this.#attached = true;
  }

  /** Why it did not come to run, if it did not: the last that its wedge has said. */
  get failure(): InputError | undefined {
    return this.#attached ? undefined : new InputError(this.#words);
  }

  /** Takes the answers out of the wedge's messages, which are whole lines. */
  heard(messages: string): string {
    return messages.replace(/.*\n/g, (line) => (this.#answers(line.trimEnd()) ? '' : line));
  }

  /** Whether a line is an answer, or says that the guest runs. */
  #answers(line: string): boolean {
    if (line.startsWith(MESSAGE)) this.#words = line.slice(MESSAGE.length);
    const answer = stateAnswer(line);
    if (answer && 'goesOn' in answer) this.#runs();
    this.#awaited?.(line);
    return [answer, reburnAnswer(line), logAnswer(line), featuresAnswer(line)].some(
      (said) => said !== undefined,
    );
  }

  /**
   * @param late takes what is answered after all
   * @throws InputError if no answer comes: until it does, nothing else can be asked
   */
  async #ask<T>(
    command: Uint8Array,
    answer: (line: string) => T | undefined,
    late: (found: T) => void = () => {},
  ): Promise<T> {
    if (this.#awaited) throw new InputError(SILENT);
    let take = late;
    const said = new Promise<T>((resolve) => {
      take = resolve;
      this.#awaited = (line) => {
        const found = answer(line);
        if (found === undefined) return;
        this.#awaited = undefined;
        take(found);
      };
    });
    this.#wire.send(command);
    try {
      return await within(PATIENCE, said, SILENT);
    } catch (error) {
      take = late;
      throw error;
    }
  }

  async reburn(domains: readonly DomainName[]): Promise<Reburned> {
    const answer = await this.#ask(reburnCommand(this.#wire.domains(domains)), reburnAnswer);
    if (typeof answer === 'string') throw new InputError(answer);
    return answer;
  }

  async stop(): Promise<Machine> {
    const answer = await this.#ask(STOP_COMMAND, stateAnswer, (late) => {
      if ('stopped' in late) void this.#goesOnAfterAll();
    });
    if ('refused' in answer) throw new InputError(answer.refused);
    if (!('stopped' in answer)) throw new InputError('the wedge does not stand still');
    try {
      return this.#wire.state(answer.stopped, this.#logs);
    } catch (error) {
      await this.#goesOnAfterAll();
      throw error;
    } finally {
      this.#logs = false;
    }
  }

  /** It has stopped, and that is of no use. */
  async #goesOnAfterAll(): Promise<void> {
    this.#logs = false;
    await this.goOn().catch(() => {}); // It has been told that something is wrong.
  }

  features(): Promise<Features> {
    return this.#ask(FEATURES_COMMAND, featuresAnswer);
  }

  async written(): Promise<Written> {
    const answer = await this.#ask(LOG_COMMAND, logAnswer);
    if (!('logged' in answer))
      throw new InputError("the guest's memory is too large to be shown from where it is");
    const { ram, pages } = this.#wire.log(answer.logged);
    const first = !this.#logs;
    this.#logs = true;
    return { ram, pages: first ? undefined : pages };
  }

  async forgetWritten(): Promise<void> {
    if (this.#logs) await this.#ask(LOG_END_COMMAND, (line) => (logAnswer(line) ? true : undefined));
    this.#logs = false;
  }

  async goOn(): Promise<void> {
    await this.#ask(GO_ON_COMMAND, (line) => {
      const answer = stateAnswer(line);
      return answer && 'goesOn' in answer ? true : undefined;
    });
  }

  letGo(): void {
    this.#wire.send(END_COMMAND);
  }
}
