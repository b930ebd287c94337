/** QEMU's control socket: a client of the QEMU Machine Protocol (QEMU's docs/interop/qmp-spec). */

import { createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

type Message = Partial<QmpEvent> & {
  readonly QMP?: unknown;
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly desc: string };
};

export class Qmp {
  readonly #socket: Socket;
  readonly #pending = new Map<
    number,
    { resolve: (value: unknown) => void; reject: (error: Error) => void }
  >();
  #last = 0;

  constructor(socket: Socket, onEvent: (event: QmpEvent) => void) {
    this.#socket = socket;
    createInterface(socket).on('line', (line) => {
      const message = JSON.parse(line) as Message;
      if (message.event !== undefined) onEvent({ event: message.event, data: message.data ?? {} });
      else if (message.id !== undefined) this.#answer(message.id, message);
    });
    // When QEMU ends it resets the connection; who waits hears of it by `close`.
    socket.on('error', () => {});
    socket.on('close', () => {
      for (const { reject } of this.#pending.values()) reject(new Error('QEMU closed its control socket'));
      this.#pending.clear();
    });
  }

  #answer(id: number, message: Message): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    if (message.error) pending?.reject(new Error(message.error.desc));
    else pending?.resolve(message.return);
  }

  /** @throws Error with QEMU's reason if it refuses, or if it has ended */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(new Error('QEMU closed its control socket'));
        return;
      }
      this.#pending.set(id, { resolve, reject });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
  }

  /** A command of the human monitor; returns the text it prints. */
  async monitor(commandLine: string): Promise<string> {
    return String(await this.execute('human-monitor-command', { 'command-line': commandLine }));
  }

  close(): void {
    this.#socket.destroy();
  }
}

/** Waits at a Unix socket for QEMU to connect (`-qmp unix:PATH`), and negotiates. */
export function listenForQmp(
  path: string,
  onEvent: (event: QmpEvent) => void,
): Promise<{ connected: Promise<Qmp>; close: () => void }> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    const connected = new Promise<Qmp>((ready, failed) => {
      server.once('connection', (socket) => {
        server.close();
        const qmp = new Qmp(socket, onEvent);
        qmp.execute('qmp_capabilities').then(() => ready(qmp), failed);
      });
    });
    connected.catch(() => {});
    server.listen(path, () => resolve({ connected, close: () => void server.close() }));
  });
}
