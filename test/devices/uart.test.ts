/** The 16550A: random sequences against QEMU's in loopback, and what QEMU's stopped clock cannot show. */

import { expect, test } from 'vitest';
import { answersOf, HarnessSession, runHarness } from './harness.ts';
import { runQtest } from './qtest.ts';
import { Random } from './random.ts';

const BASE = 0x3f8;
const [DATA, IER, FCR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 3, 4, 5, 6, 7].map((offset) => BASE + offset) as [
  number,
  number,
  number,
  number,
  number,
  number,
  number,
  number,
];
const IIR = FCR;
/** OUT2 stays on and modem-status interrupts off: QEMU differs there (qemu-exceptions.test.ts). */
const OUT2 = 0x08;
const LOOP = 0x10;

/** The master i8259 initialized, with IRQ 4 level-triggered: its IRR shows the UART's line as it is. */
const SHOW_IRQ_4 = ['out 0x4d0 1 0x10', 'out 0x20 1 0x11', 'out 0x21 1 0x20', 'out 0x21 1 4', 'out 0x21 1 1'];

async function randomSequence(session: HarnessSession, random: Random): Promise<void> {
  for (const command of SHOW_IRQ_4) await session.send(command);
  await session.write(MCR, OUT2 | LOOP);
  for (let step = 0; step < 600; step++) {
    switch (random.below(12)) {
      case 0:
      case 1:
      case 2:
        await session.write(DATA, random.below(256));
        break;
      case 3:
      case 4:
        await session.read(DATA);
        break;
      case 5:
        await session.write(IER, random.below(8));
        break;
      case 6:
        if (random.below(4) === 0) await session.write(FCR, random.below(256) & 0xc7);
        break;
      case 7:
        if (random.below(3) === 0) await session.write(LCR, random.below(256) & 0x9f);
        break;
      case 8:
        await session.write(MCR, OUT2 | LOOP | random.below(8));
        await session.read(MCR);
        break;
      case 9:
        await session.write(SCR, random.below(256));
        await session.read(SCR);
        break;
      case 10:
        await session.read(random.pick([IIR, LSR, LCR, IER]));
        break;
      default:
        await session.read(IIR);
        await session.read(LSR);
    }
    await session.read(0x20);
  }
}

test.each(Array.from({ length: 12 }, (_, seed) => seed))(
  'random sequences agree with QEMU: seed %i',
  async (seed) => {
    const session = new HarnessSession();
    try {
      await randomSequence(session, new Random(seed));
    } finally {
      session.close();
    }
    const expected = await runQtest(session.commands);
    const transcript = (answers: readonly string[]) =>
      session.commands.map((command, i) => `${command} -> ${answers[i]}`);
    expect(transcript(session.answers)).toEqual(transcript(expected));
  },
);

test('bytes written go out at once, in order', () => {
  const script = [...'hello'].map((letter) => `out ${DATA} 1 ${letter.charCodeAt(0)}`);
  expect(answersOf([...script, 'console'], ['console'])).toEqual([Buffer.from('hello').toString('hex')]);
});

test('the receive FIFO takes sixteen bytes and refuses the next', () => {
  const bytes = Array.from({ length: 17 }, (_, i) => `receive ${i}`);
  const reads = Array.from({ length: 17 }, () => `in ${DATA} 1`);
  const script = [`out ${FCR} 1 1`, ...bytes, ...reads, `in ${LSR} 1`];
  expect(answersOf(script, ['receive'])).toEqual([...Array.from({ length: 16 }, () => 'ok'), 'full']);
  expect(answersOf(script, ['in'])).toEqual([
    ...Array.from({ length: 16 }, (_, i) => `0x${i.toString(16)}`),
    '0x0',
    '0x60',
  ]);
});

test('bytes below the trigger level are announced after four characters of silence', () => {
  const script = [
    ...SHOW_IRQ_4,
    `out ${LCR} 1 0x83`,
    `out ${DATA} 1 1`,
    `out ${IER} 1 0`,
    `out ${LCR} 1 3`, // 115200 baud, 10 bits: 86.8 us a byte
    `out ${MCR} 1 ${OUT2}`,
    `out ${FCR} 1 0xc1`,
    `out ${IER} 1 1`,
    'time 1000000',
    'receive 65',
    `in ${IIR} 1`,
    'until 1347000',
    `in ${IIR} 1`,
    'until 1348000',
    `in ${IIR} 1`,
    'in 0x20 1',
    `in ${DATA} 1`,
    `in ${IIR} 1`,
    'in 0x20 1',
  ];
  expect(answersOf(script, ['in'])).toEqual(['0xc1', '0xc1', '0xcc', '0x10', '0x41', '0xc1', '0x0']);
});

test('modem-status changes in loopback are flagged until MSR is read', () => {
  const script = [
    `out ${MCR} 1 ${LOOP}`,
    `in ${MSR} 1`,
    `out ${MCR} 1 ${LOOP | 7}`,
    `in ${MSR} 1`,
    `in ${MSR} 1`,
    `out ${MCR} 1 ${LOOP}`,
    `in ${MSR} 1`,
    `out ${MCR} 1 0`,
    `in ${MSR} 1`,
  ];
  expect(answersOf(script, ['in'])).toEqual(['0xb', '0x73', '0x70', '0x7', '0xbb']);
});

test('in loopback nothing reaches the console and the wire is not heard', () => {
  expect(
    runHarness([`out ${MCR} 1 ${LOOP}`, `out ${DATA} 1 65`, 'console', 'receive 66', `in ${DATA} 1`]),
  ).toEqual(['ok', 'ok', '', 'full', '0x41']);
});

test('a guest that looks for a byte again and again awaits one; one that looks before it writes does not', () => {
  const look = `in ${LSR} 1`;
  const script = [
    look,
    `out ${DATA} 1 65`,
    look,
    'awaited',
    look,
    'awaited',
    'receive 66',
    look,
    look,
    'awaited',
  ];
  expect(answersOf(script, ['awaited'])).toEqual(['no', 'yes', 'no']);
});
