/**
 * QEMU's socket for tests of its devices (QEMU's docs/devel/testing/qtest),
 * which moves the lines of interrupts of a machine that runs.
 */

import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { InputError } from '../../elf/input-error.ts';
import { type Listener, listenFor, QemuGone } from './listen.ts';

const CLOSED = 'QEMU closed its socket for tests';

interface Waiting {
  readonly resolve: (answer: string) => void;
  readonly reject: (error: Error) => void;
}

export class Qtest {
  readonly #socket: Socket;
  /** In the order of their commands, which is that of the answers. */
  readonly #waiting: Waiting[] = [];

  constructor(socket: Socket) {
    this.#socket = socket;
    // When QEMU ends it resets the connection, which both of these report; who waits hears of it by `close`.
    socket.on('error', () => {});
    createInterface(socket)
      .on('error', () => {})
      .on('line', (line) => this.#waiting.shift()?.resolve(line));
    socket.on('close', () => {
      for (const { reject } of this.#waiting.splice(0)) reject(new QemuGone(CLOSED));
    });
  }

  /** What is answered behind "OK". @throws InputError if QEMU refuses, QemuGone if it has ended */
  async #execute(command: string): Promise<string> {
    const answer = await new Promise<string>((resolve, reject) => {
      if (this.#socket.destroyed) {
        reject(new QemuGone(CLOSED));
        return;
      }
      this.#waiting.push({ resolve, reject });
      this.#socket.write(`${command}\n`);
    });
    if (!answer.startsWith('OK')) throw new InputError(`${answer} after ${command}`);
    return answer.slice('OK'.length).trim();
  }

  /** A byte from an I/O port, as the processor would read it. */
  async readPort(port: number): Promise<number> {
    return Number(await this.#execute(`inb 0x${port.toString(16)}`));
  }

  /**
   * A rising edge at an input of a device, whose line is low then: whoever
   * drives it as well makes an edge of its own the next time it raises it.
   * @param path of the device in QEMU's tree of objects
   */
  async pulse(path: string, input: number): Promise<void> {
    const levels = [0, 1, 0].map((level) =>
      this.#execute(`set_irq_in ${path} unnamed-gpio-in ${input} ${level}`),
    );
    await Promise.all(levels);
  }
}

/** Waits at a Unix socket for QEMU to connect (`-qtest unix:PATH`). */
export const listenForQtest = (path: string): Promise<Listener<Qtest>> =>
  listenFor(path, (socket) => new Qtest(socket));
