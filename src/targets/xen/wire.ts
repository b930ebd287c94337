/**
 * Xen's serial line carries what the initial domain writes and Xen's own
 * messages. This takes them apart. Xen is told to put the time into each of
 * its messages (`console_timestamps=boot`), so that no guest prints their
 * beginning by chance:
 *
 *     (XEN) [    1.234567] Dom0 has maximum 1 VCPUs
 *
 * A message may stand in the middle of a line of the guest. Xen puts a CR
 * before every LF, of the guest's too (xen/drivers/char/serial.c).
 */

/** The time is in seconds, or in processor cycles as long as Xen's clock stands still. */
const MESSAGE = /\(XEN\) \[[ .\da-f]{12,16}\] /;
/** What may become the beginning of a message, or the CR of an LF. */
const PART_OF_MESSAGE = /(\((X(E(N(\)( (\[([ .\da-f]{0,16}\]?)?)?)?)?)?)?)?|\r)$/;
/** Xen's are shorter; a guest that prints their beginning may not fill our memory. */
const LONGEST_MESSAGE = 4096;
/** Xen's last message before the domain runs. */
export const HANDED_OVER = '*** Serial input to DOM';

const STATUS_LINE = 'previrt: status ';
const STATUS = new RegExp(`${STATUS_LINE}(\\d)\\n$`);

/** How much of the end of `text` may be the status line, or the first part of one. */
function statusPart(text: string): number {
  const whole = STATUS.exec(text);
  if (whole) return whole[0].length;
  const digit = new RegExp(`${STATUS_LINE}\\d\\r?$`).exec(text);
  if (digit) return digit[0].length;
  for (let length = STATUS_LINE.length; length > 0; length--)
    if (text.endsWith(STATUS_LINE.slice(0, length))) return length;
  return 0;
}

export interface Separated {
  /** Bytes that the guest wrote, as it wrote them. */
  readonly guest: Uint8Array;
  /** Whole messages of Xen, without their beginning. */
  readonly messages: readonly string[];
}

/** A decoder of the serial line; bytes are Latin-1 characters inside. */
export class XenWire {
  #state: 'guest' | 'message' = 'guest';
  /** Not decided yet. */
  #held = '';
  #message = '';
  /** The domain runs; what came before without being a message is Xen's banner. */
  #handedOver = false;

  get handedOver(): boolean {
    return this.#handedOver;
  }

  /** The wedge's last words, if nothing of the guest's followed them: the status it ends with. */
  get status(): number | undefined {
    const found = STATUS.exec(this.#held);
    return found ? Number(found[1]) : undefined;
  }

  receive(bytes: Uint8Array): Separated {
    let rest = Buffer.from(bytes).toString('latin1');
    let guest = '';
    const messages: string[] = [];
    for (;;) {
      if (this.#state === 'message') {
        const end = rest.indexOf('\n');
        this.#message = (this.#message + (end < 0 ? rest : rest.slice(0, end))).slice(0, LONGEST_MESSAGE);
        if (end < 0) break;
        const message = this.#message.replaceAll('\r', '');
        messages.push(message);
        if (message.startsWith(HANDED_OVER)) this.#handedOver = true;
        this.#message = '';
        this.#state = 'guest';
        rest = rest.slice(end + 1);
        continue;
      }
      rest = this.#held + rest;
      this.#held = '';
      const found = MESSAGE.exec(rest);
      if (!found) {
        guest += this.#ofGuest(this.#hold(rest));
        break;
      }
      // What stood before the message may be the status line.
      guest += this.#ofGuest(this.#hold(rest.slice(0, found.index)));
      this.#state = 'message';
      rest = rest.slice(found.index + found[0].length);
    }
    return { guest: Buffer.from(guest, 'latin1'), messages };
  }

  /** What was held as the beginning of something, when nothing more comes; but not a whole status line. */
  flush(): Uint8Array {
    if (this.status !== undefined || this.#state === 'message') return new Uint8Array();
    const held = this.#held;
    this.#held = '';
    return Buffer.from(this.#ofGuest(held), 'latin1');
  }

  /** Keeps what cannot be decided yet; returns what comes before it. */
  #hold(text: string): string {
    const plain = text.replaceAll('\r\n', '\n');
    // The beginning of a message may follow the status line.
    const decided = plain.slice(0, plain.length - (PART_OF_MESSAGE.exec(plain)?.[0].length ?? 0));
    const end = decided.length - statusPart(decided);
    this.#held = plain.slice(end);
    return plain.slice(0, end);
  }

  #ofGuest(text: string): string {
    return this.#handedOver ? text : '';
  }
}

const STX = 0x02;
const ETX = 0x03;

/** Takes out what the wedge says: it stands between STX and ETX in what the guest writes. */
export class WedgeMessages {
  #inside = false;
  #text = '';

  /** The rest, and the whole lines that the wedge has said, each with its end. */
  receive(bytes: Uint8Array): { readonly guest: Uint8Array; readonly said: string } {
    const guest: number[] = [];
    for (const byte of bytes) {
      if (byte === (this.#inside ? ETX : STX)) this.#inside = !this.#inside;
      else if (this.#inside) this.#text = (this.#text + String.fromCharCode(byte)).slice(-LONGEST_MESSAGE);
      else guest.push(byte);
    }
    const end = this.#text.lastIndexOf('\n') + 1;
    const said = this.#text.slice(0, end);
    this.#text = this.#text.slice(end);
    return { guest: Uint8Array.from(guest), said };
  }
}

/** What a domain writes before the guest does, up to and with a line that says so. */
export class Preamble {
  readonly #end: string;
  #text = '';
  #over: boolean;

  /** @param end the last line; without it there is no preamble */
  constructor(end: string | undefined) {
    this.#end = `${end}\n`;
    this.#over = end === undefined;
  }

  get over(): boolean {
    return this.#over;
  }

  /** The last line that says anything. */
  get lastLine(): string {
    return (
      this.#text
        .split('\n')
        .findLast((line) => line.trim() !== '')
        ?.trim() ?? ''
    );
  }

  /** Returns what is not the preamble's. */
  receive(bytes: Uint8Array): Uint8Array {
    if (this.#over) return bytes;
    this.#text += Buffer.from(bytes).toString('latin1');
    const start = this.#text.indexOf(this.#end);
    if (start < 0) return new Uint8Array();
    this.#over = true;
    return Buffer.from(this.#text.slice(start + this.#end.length), 'latin1');
  }
}
