/** The i8259 against QEMU's: random sequences on one controller at a time, with and without level-triggered inputs. */

import { expect, test } from 'vitest';
import { HarnessSession } from './harness.ts';
import { runQtest } from './qtest.ts';
import { Random } from './random.ts';

interface Side {
  readonly name: string;
  readonly port: number;
  readonly elcrPort: number;
  /** What its ELCR accepts. */
  readonly elcrMask: number;
  /** Interrupt line of its input 0. */
  readonly firstLine: number;
  /** Inputs that nothing else drives: not the cascade, and not those whose device speaks up by itself. */
  readonly inputs: readonly number[];
}

const SIDES: readonly Side[] = [
  { name: 'master', port: 0x20, elcrPort: 0x4d0, elcrMask: 0xf8, firstLine: 0, inputs: [1, 3, 5, 6, 7] },
  { name: 'slave', port: 0xa0, elcrPort: 0x4d1, elcrMask: 0xde, firstLine: 8, inputs: [1, 2, 4, 5, 6, 7] },
];

/** Lowers a line, unless that would withdraw an edge: there QEMU is wrong (qemu-exceptions.test.ts). */
async function lower(session: HarnessSession, side: Side, elcr: number, input: number): Promise<void> {
  await session.write(side.port, 0x0a);
  const requested = (await session.read(side.port)) & (1 << input);
  if (elcr & (1 << input) || !requested) await session.send(`irq ${side.firstLine + input} 0`);
}

async function lowerAll(session: HarnessSession, side: Side): Promise<void> {
  for (const input of side.inputs) await session.send(`irq ${side.firstLine + input} 0`);
}

async function initialize(session: HarnessSession, side: Side, random: Random): Promise<void> {
  await lowerAll(session, side); // QEMU forgets the lines' levels (qemu-exceptions.test.ts)
  const withIcw4 = random.below(4) > 0;
  const single = random.below(4) === 0;
  await session.write(side.port, 0x10 | (withIcw4 ? 1 : 0) | (single ? 2 : 0));
  await session.write(side.port + 1, random.below(256));
  if (!single) await session.write(side.port + 1, side.firstLine === 0 ? 4 : 2);
  if (withIcw4) await session.write(side.port + 1, 1 | (random.below(4) === 0 ? 2 : 0));
}

/** In special mask mode QEMU's EOI without a level is wrong (qemu-exceptions.test.ts): use one with a level. */
const OCW2 = [0x20, 0x20, 0x20, 0xa0, 0x60, 0xe0, 0xc0, 0x80, 0x00, 0x40];
const OCW2_SPECIFIC = [0x60, 0x60, 0xe0, 0xc0, 0x80, 0x00];

async function randomSequence(session: HarnessSession, side: Side, random: Random): Promise<void> {
  const elcr = random.below(2) ? side.elcrMask : random.below(256) & side.elcrMask;
  await session.write(side.elcrPort, elcr);
  await initialize(session, side, random);
  let specialMask = false;
  for (let step = 0; step < 400; step++) {
    const input = random.pick(side.inputs);
    switch (random.below(10)) {
      case 0:
      case 1:
        await session.send(`irq ${side.firstLine + input} 1`);
        break;
      case 2:
        await lower(session, side, elcr, input);
        break;
      case 3:
        await session.write(side.port + 1, random.below(256) & random.below(256));
        break;
      case 4:
        await session.write(side.port, random.pick(specialMask ? OCW2_SPECIFIC : OCW2) | random.below(8));
        break;
      case 5:
        await session.write(side.port, 0x0c); // poll, and take what comes
        await session.read(side.port + random.below(2));
        break;
      case 6:
        specialMask = random.below(3) === 0;
        await session.write(side.port, specialMask ? 0x68 : 0x48);
        break;
      case 7:
        if (random.below(12) === 0) {
          await initialize(session, side, random);
          specialMask = false;
        }
        break;
      default:
        await session.write(side.port, 0x0a | random.below(2));
        await session.read(side.port);
        await session.read(side.port + 1);
    }
  }
}

const CASES = SIDES.flatMap((side) => Array.from({ length: 12 }, (_, seed) => ({ side, seed })));

test.each(CASES)('random sequences agree with QEMU: $side.name, seed $seed', async ({ side, seed }) => {
  const session = new HarnessSession();
  try {
    await randomSequence(session, side, new Random(seed));
  } finally {
    session.close();
  }
  const expected = await runQtest(session.commands);
  const transcript = (answers: readonly string[]) =>
    session.commands.map((command, i) => `${command} -> ${answers[i]}`);
  expect(transcript(session.answers)).toEqual(transcript(expected));
});
