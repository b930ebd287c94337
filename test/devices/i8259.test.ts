/** The i8259 against QEMU's: random sequences on one controller at a time, with and without level-triggered inputs. */

import { expect, test } from 'vitest';
import { answersOf, HarnessSession } from './harness.ts';
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

/* --- The acknowledge cycle, which qtest does not have --- */

const out = (port: number, value: number): string => `out 0x${port.toString(16)} 1 0x${value.toString(16)}`;
/** Both controllers at vectors 20 and 28, all unmasked. */
function initialized({ master = 1, slave = 1 } = {}): string[] {
  return [
    ...[0x11, 0x20, 4, master].map((value, i) => out(i ? 0x21 : 0x20, value)),
    ...[0x11, 0x28, 2, slave].map((value, i) => out(i ? 0xa1 : 0xa0, value)),
  ];
}
const raise = (...lines: readonly number[]): string[] => lines.map((line) => `irq ${line} 1`);
const EOI = out(0x20, 0x20);
const SLAVE_EOI = out(0xa0, 0x20);
const IN_SERVICE = [out(0x20, 0x0b), 'in 0x20 1', out(0xa0, 0x0b), 'in 0xa0 1'];
const SPECIAL_FULLY_NESTED = 0x11;
const AUTOMATIC_EOI = 0x03;

test.each([
  {
    what: 'requests are served by priority, the slave in the place of IR2',
    script: [
      ...raise(7, 3, 12, 9, 1),
      'ack',
      EOI,
      'ack',
      SLAVE_EOI,
      EOI,
      'ack',
      SLAVE_EOI,
      EOI,
      'ack',
      EOI,
      'ack',
      EOI,
      'ack',
    ],
    vectors: ['0x21', '0x29', '0x2c', '0x23', '0x27', 'none'],
  },
  {
    what: 'only a higher priority interrupts a service',
    script: [...raise(5), 'ack', ...raise(6), 'ack', ...raise(3), 'ack', EOI, 'ack', EOI, 'ack'],
    vectors: ['0x25', 'none', '0x23', 'none', '0x26'],
  },
  {
    what: 'the slave cannot interrupt its own service in the master',
    script: [...raise(12), 'ack', ...raise(9), 'ack', SLAVE_EOI, EOI, 'ack'],
    vectors: ['0x2c', 'none', '0x29'],
  },
  {
    what: 'in special fully nested mode it can',
    modes: { master: SPECIAL_FULLY_NESTED },
    script: [...raise(12), 'ack', ...raise(9), 'ack', ...raise(3), 'ack', SLAVE_EOI, SLAVE_EOI, EOI, 'ack'],
    vectors: ['0x2c', '0x29', 'none', '0x23'],
  },
  {
    what: 'with automatic EOI nothing stays in service',
    modes: { master: AUTOMATIC_EOI, slave: AUTOMATIC_EOI },
    script: [...raise(5, 12, 14), 'ack', 'ack', ...raise(6), 'ack', 'ack', 'ack'],
    vectors: ['0x2c', '0x2e', '0x25', '0x26', 'none'],
  },
  {
    what: 'automatic EOI that rotates serves all in turn',
    modes: { master: AUTOMATIC_EOI },
    script: [out(0x20, 0x80), ...raise(3, 5), 'ack', 'irq 3 0', ...raise(3), 'ack', 'ack'],
    vectors: ['0x23', '0x25', '0x23'],
  },
  {
    what: 'special mask mode lets lower priorities in where the service is masked',
    script: [...raise(3), 'ack', ...raise(6), 'ack', out(0x21, 0x08), out(0x20, 0x68), 'ack'],
    vectors: ['0x23', 'none', '0x26'],
  },
  {
    what: 'a level-triggered line interrupts again until it falls',
    script: [out(0x4d0, 0x20), ...raise(5), 'ack', EOI, 'ack', 'irq 5 0', EOI, 'ack'],
    vectors: ['0x25', '0x25', 'none'],
  },
])('acknowledge: $what', ({ modes, script, vectors }) => {
  expect(answersOf([...initialized(modes), ...script], ['ack'])).toEqual(vectors);
});

test('a request that vanishes before its cycle is answered with IR7, and leaves nothing in service', () => {
  expect(answersOf([...initialized(), 'inta', ...IN_SERVICE], ['inta', 'in'])).toEqual([
    '0x27',
    '0x0',
    '0x0',
  ]);
});

test('INTR follows requests, masks and services', () => {
  const script = [
    ...initialized(),
    'intr',
    ...raise(5),
    'intr',
    out(0x21, 0x20),
    'intr',
    out(0x21, 0),
    'intr',
    'ack',
    'intr',
    ...raise(12),
    'intr',
    out(0xa1, 0x10),
    'intr',
  ];
  expect(answersOf(script, ['intr'])).toEqual(['0', '1', '0', '1', '0', '1', '0']);
});
