/**
 * What is typed, on its way to QEMU's UART. From a pipe QEMU takes it only when
 * there is room in the UART, and nobody can tell how much of it: what is still in
 * the pipe would stay behind when the guest moves. So it gets as much at a time as
 * goes into the UART, which is part of the machine state.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { ToGuest } from './console.ts';
import { QemuGone } from './listen.ts';
import type { Qtest } from './qtest.ts';

/** Of the UART; reading it changes nothing but errors that it tells of. */
const LINE_STATUS = 0x3fd;
const DATA_READY = 1;

/** Bytes: what QEMU takes in one go with Linux's trigger level (serial_can_receive, hw/char/serial.c). */
const PORTION = 8;
/** Bytes that are kept until more is asked for. */
const KEPT = 4096;
/** Milliseconds between two looks, at first and at most. */
const POLL = { first: 1, most: 8 } as const;
/** Milliseconds without a byte read after which a guest does not read: as in wedge/run/console.c. */
const PATIENCE = 2000;

export class Typist {
  readonly #uart: Pick<Qtest, 'readPort'>;
  readonly #send: (bytes: Uint8Array) => void;
  #waiting = Buffer.alloc(0);
  #room: (() => void)[] = [];
  #types: Promise<void> | undefined;
  #lastRead = 0;
  #closed = false;

  constructor(uart: Pick<Qtest, 'readPort'>, send: (bytes: Uint8Array) => void) {
    this.#uart = uart;
    this.#send = send;
  }

  type: ToGuest = (bytes) => {
    this.#waiting = Buffer.concat([this.#waiting, bytes]);
    this.#types ??= this.#typeAll().finally(() => {
      this.#types = undefined;
    });
    if (this.#waiting.length <= KEPT) return undefined;
    return new Promise<void>((resolve) => {
      this.#room.push(resolve);
    });
  };

  close(): void {
    this.#closed = true;
  }

  /**
   * Until the guest has read all.
   * @returns bytes that still wait, if it does not read
   */
  async read(): Promise<number> {
    const since = performance.now();
    while (this.#types && !this.#closed) {
      if (performance.now() - Math.max(since, this.#lastRead) > PATIENCE) return this.#waiting.length;
      await Promise.race([this.#types, sleep(POLL.most)]);
    }
    return 0;
  }

  async #isEmpty(): Promise<boolean> {
    return ((await this.#uart.readPort(LINE_STATUS)) & DATA_READY) === 0;
  }

  async #typeAll(): Promise<void> {
    try {
      for (let pause: number = POLL.first; !this.#closed; ) {
        if (!(await this.#isEmpty())) {
          await sleep(pause);
          pause = Math.min(2 * pause, POLL.most);
          continue;
        }
        pause = POLL.first;
        this.#lastRead = performance.now();
        if (this.#waiting.length === 0) return;
        this.#send(this.#waiting.subarray(0, PORTION));
        this.#waiting = this.#waiting.subarray(PORTION);
        if (this.#waiting.length <= KEPT) for (const resolve of this.#room.splice(0)) resolve();
        // It looks at the pipe before it answers the second time.
        for (let time = 0; time < 2; time++) await this.#isEmpty();
      }
    } catch (error) {
      if (!(error instanceof QemuGone)) throw error; // Seen elsewhere.
    }
  }
}
