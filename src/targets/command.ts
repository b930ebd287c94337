/**
 * Commands for the wedge, in the console's input, the one way in that every
 * target has. CONTROL_BYTE begins one; twice, it is the byte itself.
 */

import type { Features } from '../machine/features.ts';
import { domainMask } from '../substitution/burn-info.ts';
import type { DomainName } from '../x86/site-kinds.ts';

/** DLE, data link escape (ASCII). */
export const CONTROL_BYTE = 0x10;

/** Typed bytes, as they have to be where commands may come. */
export const typed = (bytes: Uint8Array): Uint8Array =>
  Uint8Array.from([...bytes].flatMap((byte) => (byte === CONTROL_BYTE ? [byte, byte] : [byte])));

/** Burn all sites of the running guest again, for these domains. */
export const reburnCommand = (domains: readonly DomainName[]): Uint8Array =>
  Uint8Array.from([
    CONTROL_BYTE,
    ...Buffer.from(`R${domainMask(domains).toString(16).padStart(2, '0')}`, 'latin1'),
  ]);

const command = (letter: string): Uint8Array => Uint8Array.from([CONTROL_BYTE, letter.charCodeAt(0)]);

/** Stand still, with all original bytes in RAM, and tell the machine state. */
export const STOP_COMMAND = command('S');
/** Go on, after that. */
export const GO_ON_COMMAND = command('G');
/** Show which pages have been written to since this was asked last, and log those to come. */
export const LOG_COMMAND = command('L');
/** Tell what user code can see of the processor. */
export const FEATURES_COMMAND = command('F');
/** Log no more. */
export const LOG_END_COMMAND = command('E');
/** End the run, after that: the guest runs elsewhere. */
export const END_COMMAND = command('Q');

const STOPPED = /^previrt: stopped, (.*)$/;
const NOT_STOPPED = /^previrt: not stopped: (.*)$/;
const LOGGED = /^previrt: logged, (.*)$/;
const GOES_ON = 'previrt: goes on';
const LOGS_NO_MORE = 'previrt: logs no more';
const AWAITS = /^previrt: awaits a guest, (.*)$/;

const FEATURES = /^previrt: features ((?:[0-9a-f]{8} ?)+)$/;

/** FEATURE_WORDS, where a message of the wedge tells them. */
export const featuresAnswer = (message: string): Features | undefined =>
  FEATURES.exec(message)?.[1]
    ?.split(' ')
    .map((word) => Number.parseInt(word, 16));

/** What the wedge says where a guest is awaited: where its memory belongs; nothing if a message is another one. */
export const awaitsAnswer = (message: string): string | undefined => AWAITS.exec(message)?.[1];

/** What a message of the wedge says of a command to log; nothing if it is of something else. */
export function logAnswer(message: string): { logged: string } | { ended: true } | undefined {
  const logged = LOGGED.exec(message)?.[1];
  if (logged !== undefined) return { logged };
  return message === LOGS_NO_MORE ? { ended: true } : undefined;
}

/** What a message of the wedge says of a command to stand still or go on; nothing if it is of something else. */
export function stateAnswer(
  message: string,
): { stopped: string } | { refused: string } | { goesOn: true } | undefined {
  const stopped = STOPPED.exec(message)?.[1];
  if (stopped !== undefined) return { stopped };
  const refused = NOT_STOPPED.exec(message)?.[1];
  if (refused !== undefined) return { refused };
  return message === GOES_ON ? { goesOn: true } : undefined;
}

export interface Reburned {
  /** Sites that are now as asked. */
  readonly sites: number;
  /** Of them, those that were not before. */
  readonly changed: number;
  /** Slots that hold the guest's own changes, and keep them. */
  readonly guests: number;
  /** How long the guest stood still. */
  readonly microseconds: number;
}

const REBURNED =
  /^previrt: burned again for domains [0-9a-f]+: (\d+) sites, (\d+) of them changed, (\d+) hold the guest's own changes, (\d+) us$/;
const NOT_REBURNED = /^previrt: not burned again: (.*)$/;

/** What a message of the wedge says of a command to burn again: what was done, why it was not, or nothing. */
export function reburnAnswer(message: string): Reburned | string | undefined {
  const done = REBURNED.exec(message);
  if (!done) return NOT_REBURNED.exec(message)?.[1];
  const [sites = 0, changed = 0, guests = 0, microseconds = 0] = done.slice(1).map(Number);
  return { sites, changed, guests, microseconds };
}
