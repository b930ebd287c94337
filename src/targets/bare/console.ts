/** The wire between the guest's UART and the terminal, for machines whose emulator leaves both to us. */

import { createReadStream } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import type { GuestConsole } from '../target.ts';
import { firstOf } from '../waiting.ts';
import { writeOut } from '../write-out.ts';

const CTRL_A = 1;
const LITERAL = 'a'.charCodeAt(0);
const END = 'x'.charCodeAt(0);

/**
 * Takes the escape out of what is typed: Ctrl-A x ends the run, Ctrl-A a and
 * Ctrl-A Ctrl-A are one Ctrl-A, and before anything else it swallows that.
 */
export function escapeFilter(end: () => void): (typed: Uint8Array) => Uint8Array {
  let escaped = false;
  return (typed) => {
    const passed: number[] = [];
    for (const byte of typed) {
      if (!escaped && byte === CTRL_A) {
        escaped = true;
        continue;
      }
      if (!escaped) passed.push(byte);
      else if (byte === LITERAL || byte === CTRL_A) passed.push(CTRL_A);
      else if (byte === END) end();
      escaped = false;
    }
    return Uint8Array.from(passed);
  };
}

/** Kernel lines are shorter; what has no line end is not kept without bound. */
const LONGEST_LINE = 4096;

/** Watches what the guest prints for the first whole line that contains `pattern`; there may be none to look for. */
export function panicWatch(
  pattern: string | undefined,
  found: (line: string) => void,
): (bytes: Uint8Array) => void {
  if (pattern === undefined) return () => {};
  let line = '';
  let done = false;
  return (bytes) => {
    if (done) return;
    const lines = (line + Buffer.from(bytes).toString('latin1')).split('\n');
    line = lines.pop()!.slice(-LONGEST_LINE);
    const match = lines.find((text) => text.includes(pattern));
    if (match === undefined) return;
    done = true;
    found(match.slice(match.indexOf(pattern)).trim());
  };
}

export interface Wire {
  /** Bytes from the guest. */
  write(bytes: Uint8Array): void;
  /** Stops reading what is typed. */
  close(): void;
}

function inputOf(input: GuestConsole['input']): Readable {
  if (typeof input !== 'number') return input;
  return input === 0 ? process.stdin : createReadStream('', { fd: input });
}

/** Takes bytes for the guest. What it returns is fulfilled when there is room for more, if there is none. */
export type ToGuest = (bytes: Uint8Array) => Promise<unknown> | undefined;

/** Writes to a program that the guest is in. */
export function pour(stream: Writable | null, bytes: Uint8Array): Promise<unknown> | undefined {
  if (!stream || stream.write(bytes)) return undefined;
  return firstOf(stream, 'drain', 'close').catch(() => {}); // It has ended; that is seen elsewhere.
}

/** Connects the guest to the console; `toGuest` gets what is typed, `end` is called for the escape. */
export function connect(console: GuestConsole, toGuest: ToGuest, end: () => void): Wire {
  const filter = console.terminal ? escapeFilter(end) : (bytes: Uint8Array) => bytes;
  const input = inputOf(console.input);
  let open = true;
  const onData = (bytes: Buffer): void => {
    const room = toGuest(filter(bytes));
    // At a terminal the escape has to be seen.
    if (!room || console.terminal) return;
    input.pause();
    void room.then(() => open && input.resume());
  };
  input.on('data', onData as (chunk: Buffer | string) => void);
  input.on('error', () => {}); // A terminal that is gone has no more to say.
  return {
    write: (bytes) => writeOut(console.output, bytes),
    close: () => {
      open = false;
      input.off('data', onData as (chunk: Buffer | string) => void);
      input.pause();
      // A pipe that nobody closes would keep the process.
      if (input instanceof Socket) input.unref();
    },
  };
}
