/** QEMU's control socket: a client of the QEMU Machine Protocol (QEMU's docs/interop/qmp-spec). */

import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { InputError } from '../../elf/input-error.ts';
import { type Listener, listenFor, QemuGone } from './listen.ts';

/** What QEMU sends: its greeting and its events have no id. */
interface Message {
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
  readonly event?: string;
  /** Since 1970-01-01 00:00:00 UTC. */
  readonly timestamp?: { readonly seconds: number; readonly microseconds: number };
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

const CLOSED = 'QEMU closed its control socket';

export class Qmp {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  readonly #events = new Map<string, bigint>();
  #last = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
    // When QEMU ends it resets the connection, which both of these report; who waits hears of it by `close`.
    socket.on('error', () => {});
    createInterface(socket)
      .on('error', () => {})
      .on('line', (line) => this.#receive(line));
    socket.on('close', () => {
      for (const { reject } of this.#waiting.values()) reject(new QemuGone(CLOSED));
      this.#waiting.clear();
    });
  }

  #receive(line: string): void {
    const { id, error, return: value, event, timestamp } = JSON.parse(line) as Message;
    if (event !== undefined && timestamp)
      this.#events.set(event, BigInt(timestamp.seconds * 1e6 + timestamp.microseconds) * 1000n);
    const waiting = id === undefined ? undefined : this.#waiting.get(id);
    if (id === undefined || !waiting) return;
    this.#waiting.delete(id);
    if (error) waiting.reject(new InputError(error.desc));
    else waiting.resolve(value);
  }

  /** @throws InputError with QEMU's reason if it refuses, QemuGone if it has ended */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(new QemuGone(CLOSED));
        return;
      }
      this.#waiting.set(id, { resolve, reject });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  /** When an event was last sent, in nanoseconds since 1970-01-01 00:00:00 UTC: before the answer to what caused it. */
  eventTime(event: string): bigint | undefined {
    return this.#events.get(event);
  }

  /** A command of the human monitor; returns the text it prints. */
  async monitor(commandLine: string): Promise<string> {
    return String(await this.execute('human-monitor-command', { 'command-line': commandLine }));
  }
}

/** Waits at a Unix socket for QEMU to connect (`-qmp unix:PATH`), and negotiates. */
export const listenForQmp = (path: string): Promise<Listener<Qmp>> =>
  listenFor(path, async (socket) => {
    const qmp = new Qmp(socket);
    await qmp.execute('qmp_capabilities');
    return qmp;
  });
