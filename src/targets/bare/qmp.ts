/** QEMU's control socket: a client of the QEMU Machine Protocol (QEMU's docs/interop/qmp-spec). */

import { createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

/** What QEMU sends, as far as it is an answer: its greeting and its events have no id. */
interface Answer {
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

const CLOSED = 'QEMU closed its control socket';

export class Qmp {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  #last = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
    // When QEMU ends it resets the connection, which both of these report; who waits hears of it by `close`.
    socket.on('error', () => {});
    createInterface(socket)
      .on('error', () => {})
      .on('line', (line) => this.#receive(line));
    socket.on('close', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error(CLOSED));
      this.#waiting.clear();
    });
  }

  #receive(line: string): void {
    const { id, error, return: value } = JSON.parse(line) as Answer;
    const waiting = id === undefined ? undefined : this.#waiting.get(id);
    if (id === undefined || !waiting) return;
    this.#waiting.delete(id);
    if (error) waiting.reject(new Error(error.desc));
    else waiting.resolve(value);
  }

  /** @throws Error with QEMU's reason if it refuses, or if it has ended */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(new Error(CLOSED));
        return;
      }
      this.#waiting.set(id, { resolve, reject });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  /** A command of the human monitor; returns the text it prints. */
  async monitor(commandLine: string): Promise<string> {
    return String(await this.execute('human-monitor-command', { 'command-line': commandLine }));
  }
}

export interface QmpListener {
  /** Rejects if QEMU refuses to negotiate; stays pending if it never connects. */
  readonly connected: Promise<Qmp>;
  /** Waits no longer. */
  close(): void;
}

/** Waits at a Unix socket for QEMU to connect (`-qmp unix:PATH`), and negotiates. */
export function listenForQmp(path: string): Promise<QmpListener> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    const connected = new Promise<Qmp>((ready, failed) => {
      server.once('connection', (socket) => {
        server.close();
        const qmp = new Qmp(socket);
        qmp.execute('qmp_capabilities').then(() => ready(qmp), failed);
      });
    });
    connected.catch(() => {});
    server.listen(path, () => resolve({ connected, close: () => void server.close() }));
  });
}
