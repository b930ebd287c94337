/**
 * A guest on a wire: frames, each a head and its bytes. First comes the size of
 * its RAM, then pages of it, while the guest still runs if that can be, then its
 * state without RAM; and at last, when that has been heard, that it runs there.
 * What follows is not ours.
 *
 * Who may send is for whatever carries it to know.
 */

import type { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { crc32, deflate, deflateSync, inflate, inflateSync } from 'node:zlib';
import { InputError } from '../elf/input-error.ts';
import { decodeRecord, defineRecord, encodeRecord, type RecordOf } from '../elf/record.ts';
import { BLOCK_SIZE, PAGE_SIZE } from '../machine/ram.ts';
import { MAX_MEMORY } from '../machine/virtual-pc.ts';
import type { Incoming } from '../targets/target.ts';
import { firstOf } from '../targets/waiting.ts';
import { type GuestPhysical, guestPhysical } from '../x86/address.ts';

export const FRAMES = { memory: 1, pages: 2, state: 3, heard: 4 } as const;

export const FRAME = defineRecord('frame', 'Head of a frame; numbers are little-endian.', [
  ['kind', 'u32', 'FRAMES'],
  ['checksum', 'u32', 'CRC-32 of the head, with 0 here'],
  ['start', 'u64', 'memory: bytes of RAM; pages: guest-physical address of the first'],
  ['size', 'u32', 'pages: bytes of them; if not as many follow, they are deflated (RFC 1950)'],
  ['content', 'u32', 'pages: CRC-32 of the bytes that follow'],
  ['length', 'u64', 'bytes that follow'],
]);

export type Frame = RecordOf<typeof FRAME>;

/** No state is longer: its file holds 4 GiB. */
const LONGEST_STATE = 2n ** 32n;

/** Bytes that are worth another thread. */
const MANY = 2 ** 16;
const deflateMany = promisify<Uint8Array, object, Buffer>(deflate);
const inflateMany = promisify<Uint8Array, object, Buffer>(inflate);
const deflated = async (bytes: Uint8Array): Promise<Buffer> =>
  (bytes.length < MANY ? deflateSync : deflateMany)(bytes, { level: 1 });
const inflated = async (bytes: Uint8Array, size: number): Promise<Buffer> =>
  (size < MANY ? inflateSync : inflateMany)(bytes, { maxOutputLength: size });

const checksumOf = (frame: Frame): number => crc32(encodeRecord(FRAME, { ...frame, checksum: 0 }));

function head(fields: Partial<Frame>): Uint8Array {
  const frame = { kind: 0, checksum: 0, start: 0n, size: 0, content: 0, length: 0n, ...fields };
  return encodeRecord(FRAME, { ...frame, checksum: checksumOf(frame) });
}

/** @param ramSize bytes */
export const memoryFrame = (ramSize: number): Uint8Array =>
  head({ kind: FRAMES.memory, start: BigInt(ramSize) });

/** The head of a state of `length` bytes. */
export const stateHead = (length: number): Uint8Array => head({ kind: FRAMES.state, length: BigInt(length) });

/** It has been heard that the guest runs there. */
export const heardFrame = (): Uint8Array => head({ kind: FRAMES.heard });

/** Whole pages, at most BLOCK_SIZE bytes. */
export async function pagesFrame(start: GuestPhysical, bytes: Uint8Array): Promise<Uint8Array> {
  const shorter = await deflated(bytes);
  const stored = shorter.length < bytes.length ? shorter : bytes;
  const fields = { start: BigInt(start), size: bytes.length, length: BigInt(stored.length) };
  return Buffer.concat([head({ kind: FRAMES.pages, content: crc32(stored), ...fields }), stored]);
}

/** Takes frames off a stream. */
export class FrameReader {
  readonly #stream: Readable;
  /** What has come and was not taken. */
  #chunks: Buffer[] = [];
  #size = 0;

  constructor(stream: Readable) {
    this.#stream = stream;
  }

  /** @throws InputError if the stream ends before */
  async take(count: number): Promise<Uint8Array> {
    while (this.#size < count) {
      const chunk = this.#stream.read() as Buffer | null;
      if (chunk) {
        this.#chunks.push(chunk);
        this.#size += chunk.length;
      } else if (this.#stream.readableEnded)
        throw new InputError('the connection was closed before all of the state had come');
      else
        await firstOf(this.#stream, 'readable', 'end').catch(() => {
          throw new InputError('the connection was lost');
        });
    }
    const all = Buffer.concat(this.#chunks);
    this.#chunks = [all.subarray(count)];
    this.#size = all.length - count;
    return all.subarray(0, count);
  }

  /** What has come off the stream and was not taken. */
  rest(): Uint8Array {
    return Buffer.concat(this.#chunks.splice(0));
  }

  /** @throws InputError if it is none that can stand here */
  async head(): Promise<Frame> {
    const frame = decodeRecord(FRAME, await this.take(FRAME.size), 0, 'frame');
    const wrong = (what: string): never => {
      throw new InputError(`this is no guest: ${what}`);
    };
    const { kind, start, size, length } = frame;
    if (frame.checksum !== checksumOf(frame)) wrong('the head of a frame does not have its checksum');
    if (kind === FRAMES.memory) {
      if (start === 0n || start > MAX_MEMORY || start % BigInt(PAGE_SIZE)) wrong(`RAM of ${start} bytes`);
    } else if (kind === FRAMES.pages) {
      if (size === 0 || size > BLOCK_SIZE || size % PAGE_SIZE || length > size)
        wrong(`${size} bytes of pages`);
    } else if (kind === FRAMES.state) {
      if (length > LONGEST_STATE) wrong(`a state of ${length} bytes`);
    } else if (kind !== FRAMES.heard || length > 0) wrong(`frame of kind ${kind}`);
    return frame;
  }

  /** The pages that follow a head. @throws InputError if they lie outside of RAM or are damaged */
  async pages(
    { start, size, length, content }: Frame,
    ramSize: number,
    to: Pick<Incoming, 'write'>,
  ): Promise<void> {
    const what = `pages at 0x${start.toString(16).padStart(8, '0')}`;
    if (start % BigInt(PAGE_SIZE) || start + BigInt(size) > ramSize)
      throw new InputError(`${what} do not lie in RAM`);
    const stored = await this.take(Number(length));
    if (crc32(stored) !== content) throw new InputError(`${what} do not have their checksum`);
    await to.write(guestPhysical(Number(start)), await whole(stored, size, what));
  }
}

async function whole(stored: Uint8Array, size: number, what: string): Promise<Uint8Array> {
  if (stored.length === size) return stored;
  const bytes = await inflated(stored, size).catch(() => undefined);
  if (bytes?.length !== size) throw new InputError(`${what} cannot be inflated to ${size} bytes`);
  return bytes;
}
