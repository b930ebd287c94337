/** As much of GDB's remote protocol as stops a machine on QEMU at an instruction (GDB manual, appendix E). */

import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';

/** Milliseconds that QEMU has to answer. */
const PATIENCE = 30_000;

const frame = (text: string): string => {
  const sum = Buffer.from(text, 'latin1').reduce((all, byte) => (all + byte) & 0xff, 0);
  return `$${text}#${sum.toString(16).padStart(2, '0')}`;
};

const PACKET = /\$([^#]*)#../;

/** What makes a running machine stop. */
const BREAK = '\x03';

export class Gdb {
  readonly #socket: Socket;
  #received = '';
  #packets: string[] = [];
  #news: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('latin1').on('data', (text: string) => this.#receive(text));
    socket.on('error', () => {});
  }

  /** QEMU listens to nothing before it has heard that a packet has come. */
  #receive(text: string): void {
    this.#received += text;
    for (let match = PACKET.exec(this.#received); match; match = PACKET.exec(this.#received)) {
      this.#received = this.#received.slice(match.index + match[0].length);
      this.#packets.push(match[1]!);
      this.#socket.write('+');
    }
    this.#news();
  }

  /**
   * The machine stands still then.
   * @param path of the socket that QEMU listens at (`gdbserver`)
   */
  static async connect(path: string): Promise<Gdb> {
    const socket = createConnection(path);
    await once(socket, 'connect');
    const gdb = new Gdb(socket);
    await gdb.#packet(PATIENCE);
    return gdb;
  }

  /** The next packet; undefined if none comes in time. */
  async #packet(limit: number): Promise<string | undefined> {
    const deadline = Date.now() + limit;
    while (this.#packets.length === 0) {
      const rest = deadline - Date.now();
      if (rest <= 0) return undefined;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, rest);
        this.#news = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return this.#packets.shift();
  }

  /** @throws Error if QEMU does not answer, or refuses */
  async #ask(question: string): Promise<string> {
    this.#socket.write(frame(question));
    const answer = await this.#packet(PATIENCE);
    if (answer === undefined || answer === '' || /^E..$/.test(answer))
      throw new Error(`gdb: ${question}: ${answer ?? 'no answer'}`);
    return answer;
  }

  /** Words at a guest-virtual address. */
  async words(address: number, count: number): Promise<number[]> {
    const bytes = Buffer.from(await this.#ask(`m${address.toString(16)},${4 * count}`), 'hex');
    return Array.from({ length: count }, (_, index) => bytes.readUInt32LE(4 * index));
  }

  /** EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI, EIP. */
  async registers(): Promise<number[]> {
    const bytes = Buffer.from((await this.#ask('g')).slice(0, 9 * 8), 'hex');
    return Array.from({ length: 9 }, (_, index) => bytes.readUInt32LE(4 * index));
  }

  /** Stops the machine, which runs. */
  async stop(): Promise<void> {
    this.#packets = []; // That it had stopped for somebody else.
    this.#socket.write(BREAK);
    await this.#packet(PATIENCE);
  }

  /**
   * Lets the machine, which stands still, run until it is about to execute an instruction.
   * False if it is not within `limit` milliseconds; it stands still then, too.
   */
  async runTo(address: number, limit: number): Promise<boolean> {
    const at = `0,${address.toString(16)},1`;
    await this.#ask(`Z${at}`);
    this.#socket.write(frame('c'));
    const stopped = await this.#packet(limit);
    if (stopped === undefined) await this.stop();
    await this.#ask(`z${at}`);
    return stopped !== undefined;
  }

  close(): void {
    this.#socket.destroy();
  }
}
