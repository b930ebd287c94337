/**
 * Commands for the wedge, in the console's input, the one way in that every
 * target has. CONTROL_BYTE begins one; twice, it is the byte itself.
 */

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
