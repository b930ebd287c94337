/** The wire between console and guest: what is typed is held back where the guest takes no more. */

import { PassThrough } from 'node:stream';
import { setImmediate as breathe } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { connect, pour } from '../../src/targets/bare/console.ts';

const consoleOf = (input: PassThrough, terminal: boolean) => ({ input, output: 1, messages: 2, terminal });

it.each([false, true])(
  'a guest that takes no more holds up what is typed, but not at a terminal: %s',
  async (terminal) => {
    const input = new PassThrough();
    const taken: string[] = [];
    let room: () => void = () => {};
    const wire = connect(
      consoleOf(input, terminal),
      (bytes) => {
        taken.push(Buffer.from(bytes).toString());
        return new Promise<void>((resolve) => {
          room = resolve;
        });
      },
      () => {},
    );
    input.write('one');
    await breathe();
    input.write('two');
    await breathe();
    expect(taken).toEqual(terminal ? ['one', 'two'] : ['one']);
    room();
    await breathe();
    expect(taken).toEqual(['one', 'two']);
    wire.close();
    room();
    input.write('three');
    await breathe();
    expect(taken).toEqual(['one', 'two']);
  },
);

it('there is room again when a program has read, or has ended', async () => {
  for (const how of ['resume', 'destroy'] as const) {
    const program = new PassThrough();
    expect(pour(program, Buffer.alloc(1))).toBeUndefined();
    const room = pour(program, Buffer.alloc(program.writableHighWaterMark));
    expect(room).toBeDefined();
    program[how]();
    await room;
  }
});
