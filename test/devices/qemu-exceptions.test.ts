/**
 * Where QEMU 7.2 differs from the data sheets. Each difference is shown on
 * both: our answers are those of the data sheet, and QEMU's must still be the
 * wrong ones, else the exception, and what the other tests avoid because of
 * it, can go.
 */

import { expect, test } from 'vitest';
import { answersOf } from './harness.ts';
import { play } from './player.ts';
import { runQtest } from './qtest.ts';

const out = (port: number, value: number): string => `out 0x${port.toString(16)} 1 0x${value.toString(16)}`;
const MASTER = [out(0x20, 0x11), out(0x21, 0x20), out(0x21, 4), out(0x21, 1)];
const IRR = [out(0x20, 0x0a), 'in 0x20 1'];
const ISR = [out(0x20, 0x0b), 'in 0x20 1'];
const POLL = [out(0x20, 0x0c), 'in 0x20 1'];
const GATE_ON = out(0x61, 1);
const OUT_2 = 'in 0x61 1 0x20';
const program = (mode: number, count: number, bcd = 0): string[] => [
  out(0x43, 0xb0 | (mode << 1) | bcd),
  out(0x42, count & 0xff),
  out(0x42, count >> 8),
];
const COUNT_2 = [out(0x43, 0x80), 'in 0x42 1', 'in 0x42 1'];
const STATUS_2 = [out(0x43, 0xe8), 'in 0x42 1'];
/** Time for a count of a few thousand clocks to move, but not to run out: 83.81 us, 100 clocks. */
const WAIT = 'wait 83810';

interface Exception {
  readonly device: string;
  readonly what: string;
  /** What the data sheet says and QEMU does not do. */
  readonly reason: string;
  readonly script: readonly string[];
  /** Answers of the `in` commands; a range where the exact time of a read is not the point. */
  readonly dataSheet: readonly (number | readonly [number, number])[];
  readonly qemu: readonly (number | readonly [number, number])[];
}

/** Shown with QEMU's clock standing still. */
const STILL: readonly Exception[] = [
  {
    device: 'i8259',
    what: 'an edge whose line falls before it is taken',
    reason:
      'the request must stay until the first INTA, else it is withdrawn; QEMU (like KVM) keeps the edge',
    script: [...MASTER, 'irq 5 1', 'irq 5 0', ...IRR],
    dataSheet: [0],
    qemu: [0x20],
  },
  {
    device: 'i8259',
    what: 'initialization while a line is high',
    reason:
      'ICW1 resets the edge sense circuit: only a new low-to-high transition counts; QEMU forgets the level',
    script: [...MASTER, 'irq 5 1', ...MASTER, 'irq 5 1', ...IRR],
    dataSheet: [0],
    qemu: [0x20],
  },
  {
    device: 'i8259',
    what: 'level-triggered mode by ICW1',
    reason: 'LTIM makes all inputs level-triggered; QEMU ignores it',
    script: [
      'irq 5 0',
      out(0x20, 0x19),
      out(0x21, 0x20),
      out(0x21, 4),
      out(0x21, 1),
      out(0x21, 0xdf),
      'irq 5 1',
      ...POLL,
      ...IRR,
    ],
    dataSheet: [0x85, 0x21], // the timer's OUT is high too
    qemu: [0x85, 0],
  },
  {
    device: 'i8259',
    what: 'EOI without a level in special mask mode',
    reason: 'an in-service bit that is masked is not cleared by a non-specific EOI; QEMU clears it',
    script: [...MASTER, 'irq 5 1', ...POLL, out(0x21, 0x20), out(0x20, 0x68), out(0x20, 0x20), ...ISR],
    dataSheet: [0x85, 0x20],
    qemu: [0x85, 0],
  },
  {
    device: 'i8259',
    what: 'special fully nested mode',
    reason:
      'the slave in service shuts out lower priorities of the master, not itself; QEMU shuts out nothing',
    script: [
      ...[0x11, 0x28, 2, 1].map((value, i) => out(i ? 0xa1 : 0xa0, value)),
      ...[0x11, 0x20, 4, 0x11].map((value, i) => out(i ? 0x21 : 0x20, value)),
      ...['irq 12 1', ...POLL, 'irq 5 1', ...POLL],
    ],
    dataSheet: [0x82, 0],
    qemu: [0x82, 0x85],
  },
  {
    device: '16550A',
    what: 'modem-status changes in loopback',
    reason: 'the delta bits work in loopback, fed by MCR; QEMU shows none',
    script: [out(0x3fc, 0x10), 'in 0x3fe 1', out(0x3fc, 0x13), 'in 0x3fe 1'],
    dataSheet: [0x0b, 0x33],
    qemu: [0, 0x30],
  },
  {
    device: '16550A',
    what: 'interrupts with OUT2 off',
    reason:
      'OUT2 enables the driver of the IRQ line on a PC (PC AT technical reference); QEMU raises it anyway',
    script: [out(0x4d0, 0x10), ...MASTER, out(0x3fc, 0), out(0x3f9, 2), ...IRR, out(0x3fc, 8), ...IRR],
    dataSheet: [0, 0x10],
    qemu: [0x10, 0x10],
  },
];

/** Shown while time passes. */
const TIMED: readonly Exception[] = [
  {
    device: 'i8254',
    what: 'odd counts in mode 3',
    reason: 'the counter is loaded with the count minus one and steps by two; QEMU shows odd values too',
    script: [GATE_ON, ...program(3, 0xfffd), out(0x43, 0x80), 'in 0x42 1', 'in 0x42 1'],
    dataSheet: [[0xf8, 0xfc], 0xff],
    qemu: [[0xf5, 0xfb], 0xff],
  },
  {
    device: 'i8254',
    what: 'OUT in mode 2',
    reason: 'OUT is high but for the last clock of each period; QEMU has it the other way round',
    script: [GATE_ON, ...program(2, 0x8000), WAIT, OUT_2],
    dataSheet: [0x20],
    qemu: [0],
  },
  {
    device: 'i8254',
    what: 'OUT in mode 4',
    reason: 'OUT is high but for one clock at the end; QEMU has it the other way round',
    script: [GATE_ON, ...program(4, 0x8000), WAIT, OUT_2],
    dataSheet: [0x20],
    qemu: [0],
  },
  {
    device: 'i8254',
    what: 'mode 1 before its trigger',
    reason: 'OUT stays high until the gate rises; QEMU starts when the count is written',
    script: [GATE_ON, ...program(1, 0x100), WAIT, OUT_2, 'wait 1000000', OUT_2],
    dataSheet: [0x20, 0x20],
    qemu: [0x20, 0],
  },
  {
    device: 'i8254',
    what: 'the gate in mode 0',
    reason: 'a low gate stops the count; QEMU counts on',
    script: [GATE_ON, ...program(0, 0x8000), out(0x61, 0), WAIT, ...COUNT_2, GATE_ON],
    dataSheet: [[0xf0, 0xff], 0x7f],
    qemu: [[0x80, 0x9f], 0x7f],
  },
  {
    device: 'i8254',
    what: 'a new count while mode 2 counts',
    reason: 'the new count is loaded at the end of the cycle in progress; QEMU loads it at once',
    script: [GATE_ON, ...program(2, 0x8000), out(0x42, 0), out(0x42, 0x20), WAIT, ...COUNT_2],
    dataSheet: [[0x80, 0x9f], 0x7f],
    qemu: [[0x80, 0x9f], 0x1f],
  },
  {
    device: 'i8254',
    what: 'binary-coded decimal counts',
    reason: 'the counter has four decades; QEMU counts in binary',
    script: [GATE_ON, ...program(0, 0x9000, 1), WAIT, ...COUNT_2],
    dataSheet: [[0x80, 0x99], 0x88],
    qemu: [[0x80, 0x9f], 0x8f],
  },
  {
    device: 'i8254',
    what: 'the null count bit of the status',
    reason: 'bit 6 is set until the count written is loaded; QEMU always reads it as 0',
    script: [GATE_ON, out(0x43, 0xb0), ...STATUS_2, ...program(0, 0x8000), ...STATUS_2],
    dataSheet: [0x70, 0x30],
    qemu: [[0x30, 0xb0], 0x30],
  },
  {
    device: 'i8254',
    what: 'modes 6 and 7',
    reason: 'bit 2 of the mode is ignored in modes 2 and 3; QEMU takes them for modes of their own',
    script: [GATE_ON, ...program(7, 0x8000), ...STATUS_2],
    dataSheet: [0xb6],
    qemu: [0x3e],
  },
  {
    device: 'MC146818',
    what: 'the periodic flag without its interrupt',
    reason: 'PF is set regardless of PIE; QEMU does not run the divider then',
    script: [
      ...[
        out(0x70, 0x0a),
        out(0x71, 0x26),
        out(0x70, 0x0b),
        out(0x71, 0x02),
        out(0x70, 0x0c),
        'in 0x71 1 0x40',
      ],
      ...['wait 2000000', 'in 0x71 1 0x40'],
    ],
    dataSheet: [[0, 0x40], 0x40],
    qemu: [0, 0],
  },
];

function check(answers: readonly string[], expected: Exception['dataSheet']): void {
  expect(answers.length).toBe(expected.length);
  answers.map(Number).forEach((answer, i) => {
    const wanted = expected[i]!;
    const [low, high] = typeof wanted === 'number' ? [wanted, wanted] : wanted;
    expect(answer, `answer ${i}: 0x${answer.toString(16)}`).toBeGreaterThanOrEqual(low);
    expect(answer, `answer ${i}: 0x${answer.toString(16)}`).toBeLessThanOrEqual(high);
  });
}

test.each(STILL)('$device: $what', async ({ script, dataSheet, qemu }) => {
  check(answersOf(script, ['in']), dataSheet);
  const answers = await runQtest(script);
  check(
    answers.filter((_, i) => script[i]!.startsWith('in')),
    qemu,
  );
});

test.each(TIMED)('$device: $what', ({ script, dataSheet, qemu }) => {
  const played = play(script);
  const values = (lines: readonly string[]) => lines.map((line) => line.split('-> ')[1]!);
  check(values(played.ours), dataSheet);
  check(values(played.qemus), qemu);
});
