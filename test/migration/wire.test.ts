/** A guest on a wire: what is sent arrives, and what is damaged does not. Replay with PREVIRT_SEED. */

import { PassThrough } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/elf/input-error.ts';
import { PAGE_SIZE } from '../../src/machine/ram.ts';
import { FRAMES, FrameReader, memoryFrame, pagesFrame, stateHead } from '../../src/migration/wire.ts';
import { guestPhysical } from '../../src/x86/address.ts';

const SEED = Number(process.env.PREVIRT_SEED ?? Date.now() % 2 ** 31);
const RAM_SIZE = 64 * PAGE_SIZE;

/** Some pages, some of which can be deflated. */
const pages = fc
  .record({
    page: fc.nat({ max: 40 }),
    count: fc.integer({ min: 1, max: 20 }),
    filler: fc.uint8Array({ minLength: 1, maxLength: PAGE_SIZE }),
  })
  .map(({ page, count, filler }) => ({
    start: guestPhysical(page * PAGE_SIZE),
    bytes: Uint8Array.from({ length: count * PAGE_SIZE }, (_, index) => filler[index % filler.length]!),
  }));

/** A stream that has these bytes, in pieces of so many. */
function streamOf(bytes: Uint8Array, piece: number): PassThrough {
  const stream = new PassThrough();
  for (let at = 0; at < bytes.length; at += piece) stream.write(bytes.subarray(at, at + piece));
  stream.end();
  return stream;
}

/** Everything that comes until a state. */
async function takeAll(stream: PassThrough): Promise<{ ram: Uint8Array; rest: string }> {
  const wire = new FrameReader(stream);
  const ram = new Uint8Array(RAM_SIZE);
  let announced = 0;
  for (;;) {
    const frame = await wire.head();
    if (frame.kind === FRAMES.memory) announced = Number(frame.start);
    if (frame.kind === FRAMES.pages)
      await wire.pages(frame, announced, { write: (start, bytes) => ram.set(bytes, start) });
    if (frame.kind !== FRAMES.state) continue;
    await wire.take(Number(frame.length));
    const rest = [wire.rest()];
    for await (const chunk of stream) rest.push(chunk as Buffer);
    return { ram, rest: Buffer.concat(rest).toString() };
  }
}

async function sent(parts: readonly { start: number; bytes: Uint8Array }[]): Promise<Buffer> {
  const frames = await Promise.all(parts.map(({ start, bytes }) => pagesFrame(guestPhysical(start), bytes)));
  const state = Buffer.from('a state');
  return Buffer.concat([memoryFrame(RAM_SIZE), ...frames, stateHead(state.length), state]);
}

describe(`a guest on a wire (PREVIRT_SEED=${SEED})`, () => {
  it('arrives as it was sent, in whatever pieces; and what is typed behind it is left', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(pages, { maxLength: 5 }),
        fc.integer({ min: 1, max: 70_000 }),
        async (parts, piece) => {
          const expected = new Uint8Array(RAM_SIZE);
          for (const { start, bytes } of parts) expected.set(bytes, start);
          const stream = streamOf(Buffer.concat([await sent(parts), Buffer.from('typed')]), piece);
          const { ram, rest } = await takeAll(stream);
          expect(Buffer.compare(ram, expected)).toBe(0);
          expect(rest).toBe('typed');
        },
      ),
      { seed: SEED, numRuns: 50 },
    );
  });

  it('is refused if it breaks off', async () => {
    const whole = await sent([{ start: 0, bytes: new Uint8Array(PAGE_SIZE).fill(7) }]);
    await fc.assert(
      fc.asyncProperty(fc.nat({ max: whole.length - 1 }), async (length) => {
        await expect(takeAll(streamOf(whole.subarray(0, length), 100))).rejects.toThrow(
          'connection was closed',
        );
      }),
      { seed: SEED, numRuns: 50 },
    );
  });

  it('is refused if any byte of it is another', async () => {
    const bytes = Uint8Array.from({ length: 3 * PAGE_SIZE }, (_, index) => (index * index) >> 5);
    const whole = await sent([{ start: PAGE_SIZE, bytes }]);
    const state = 'a state'.length;
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: whole.length - state - 1 }),
        fc.integer({ min: 1, max: 255 }),
        async (at, flip) => {
          const damaged = Buffer.from(whole);
          damaged[at]! ^= flip;
          await expect(takeAll(streamOf(damaged, 4096))).rejects.toThrow(InputError);
        },
      ),
      { seed: SEED, numRuns: 300 },
    );
  });
});
