/** The MC146818: scenarios at QEMU's own nanoseconds, then what only a clock of our own can show. */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { answersOf } from './harness.ts';
import { play, WALL_CLOCK } from './player.ts';
import { Random } from './random.ts';

const A = 0x0a;
const B = 0x0b;
const C = 0x0c;
const SET = 0x80;
const PERIODIC = 0x40;
const ALARM = 0x20;
const UPDATE = 0x10;
/** Where QEMU keeps the century a second time, as the PS/2 did. */
const QEMU_CENTURY = 0x37;
const BINARY = 0x04;
const HOURS_24 = 0x02;
/** Seconds, minutes, hours, day of week, day, month, year, century. */
const TIME = [0, 2, 4, 6, 7, 8, 9, 0x32];

const out = (port: number, value: number): string => `out 0x${port.toString(16)} 1 0x${value.toString(16)}`;
const read = (index: number, mask = 0xff): string[] => [out(0x70, index), `in 0x71 1 0x${mask.toString(16)}`];
const write = (index: number, value: number): string[] => [out(0x70, index), out(0x71, value)];
const readTime = TIME.flatMap((index) => read(index));

/** Both i8259 initialized, IRQ 2 and 8 unmasked, nothing else. */
const INTERRUPTS = [
  ...[0x11, 0x20, 4, 1].map((value, i) => out(i ? 0x21 : 0x20, value)),
  ...[0x11, 0x28, 2, 1].map((value, i) => out(i ? 0xa1 : 0xa0, value)),
  ...[out(0x21, 0xfb), out(0xa1, 0xfe)],
];
const EOI = [out(0xa0, 0x20), out(0x20, 0x20)];
/** Takes an interrupt if there is one, and says why it came. QEMU shows the periodic flag only with its interrupt. */
const take = ['ack', ...read(C, 0xff & ~PERIODIC), ...EOI];
const START = [...write(A, 0x26), ...write(B, HOURS_24), ...read(C), ...INTERRUPTS];

/** Waits in steps that do not hit a second's boundary exactly. */
const wait = (seconds: number): string[] => [`wait ${Math.round(seconds * 1e9)}`];

function agree(script: readonly string[]): void {
  const { ours, qemus } = play(script);
  expect(ours).toEqual(qemus);
}

test('time passes over the end of a leap February', () => {
  agree([...START, ...readTime, ...wait(3.3), ...readTime, ...wait(3.1), ...readTime]);
});

test('every format shows the same time', () => {
  const formats = [0, BINARY, HOURS_24, BINARY | HOURS_24];
  agree([...START, ...formats.flatMap((format) => [...write(B, format), ...readTime])]);
});

test('times that the guest sets, stopped and running', () => {
  const setStopped = [0x58, 0x59, 0x23, 0x01, 0x31, 0x12, 0x99, 0x19].flatMap((value, i) =>
    write(TIME[i]!, value),
  );
  agree([
    ...START,
    ...write(B, SET | HOURS_24),
    ...setStopped,
    ...readTime,
    ...wait(1.5),
    ...readTime,
    ...write(B, HOURS_24),
    ...readTime,
    ...wait(2.7),
    ...readTime,
    ...write(0, 0x30),
    ...read(0),
    ...write(4, 0x05),
    ...readTime,
    ...wait(1.2),
    ...readTime,
  ]);
});

test('stopping the clock disables its update interrupt', () => {
  agree([...START, ...write(B, HOURS_24 | UPDATE), ...write(B, SET | HOURS_24 | UPDATE), ...read(B)]);
});

test('half a second from releasing the divider to the first update', () => {
  agree([
    ...START,
    ...write(A, 0x76),
    ...wait(0.3),
    ...read(A),
    ...read(0),
    ...write(A, 0x26),
    ...wait(0.4),
    ...read(0),
    ...wait(0.15),
    ...read(0),
    ...wait(0.9),
    ...read(0),
  ]);
});

test('UIP precedes each update', () => {
  const polls = Array.from({ length: 600 }, () => [...read(A, 0x80), 'wait 17000']).flat();
  const approach = [...write(A, 0x76), ...write(A, 0x26), 'wait 495000000']; // to 5 ms before an update
  const { ours, qemus } = play([...START, ...approach, ...polls]);
  expect(ours.filter((line) => line.endsWith('0x80')).length).toBeGreaterThan(9);
  expect(ours).toEqual(qemus);
});

test('update and alarm interrupts', () => {
  const alarm = (hours: number, minutes: number, seconds: number) => [
    ...write(5, hours),
    ...write(3, minutes),
    ...write(1, seconds),
  ];
  const beats = (count: number) => Array.from({ length: count }, () => [...take, ...wait(0.26)]).flat();
  agree([
    ...START,
    ...write(B, HOURS_24 | UPDATE),
    ...beats(12),
    ...write(B, HOURS_24),
    ...read(C, 0xff & ~PERIODIC),
    ...alarm(0, 0, 0x03),
    ...write(B, HOURS_24 | ALARM),
    ...beats(24),
    ...alarm(0xff, 0xff, 0xff),
    ...beats(10),
    ...write(B, HOURS_24 | ALARM | UPDATE),
    ...beats(10),
  ]);
});

/**
 * QEMU begins a period when the rate is set and is a nanosecond late; ours come from the
 * free-running divider, as the data sheet has it. So this compares numbers of interrupts.
 */
test.each([3, 6, 10, 13, 15])('periodic interrupts at rate %i', (rate) => {
  const period = 2 ** (rate - 1) / 32768;
  const beats = Array.from({ length: 40 }, () => [...take, ...wait(period / 4)]).flat();
  const { ours, qemus } = play([
    ...START,
    ...write(A, 0x20 | rate),
    ...write(B, HOURS_24 | PERIODIC),
    ...beats,
  ]);
  const count = (lines: readonly string[]) => lines.filter((line) => line.includes('ack -> 0x28')).length;
  expect(count(qemus)).toBeGreaterThan(8);
  expect(Math.abs(count(ours) - count(qemus))).toBeLessThanOrEqual(1);
});

test.each([1, 2])('random writes to the CMOS memory and a stopped clock agree with QEMU: seed %i', (seed) => {
  const random = new Random(seed);
  const script = [...START, ...write(B, SET | HOURS_24)];
  for (let step = 0; step < 300; step++) {
    const index = random.below(128);
    if ([A, B, C, QEMU_CENTURY].includes(index)) continue;
    script.push(...write(index, random.below(256)), ...read(index), ...read(random.pick(TIME)));
  }
  agree(script);
});

/* --- Without QEMU --- */

const startAt = (iso: string): string[] => [
  `wall ${BigInt(Date.parse(`${iso}Z`)) * 1_000_000n}`,
  'reset 0x1000000 0',
];
const bcd = (answer: string): number => Number(answer.slice(2));

test('any date from 1800 to 2200 reads as the calendar has it', () => {
  const day = 86_400_000;
  fc.assert(
    fc.property(
      fc.integer({ min: Date.UTC(1800, 0, 1) / day, max: Date.UTC(2199, 11, 31) / day }),
      (days) => {
        const date = new Date(days * day);
        const set = [
          ...write(B, SET | HOURS_24),
          ...[
            0,
            0,
            0,
            1,
            date.getUTCDate(),
            date.getUTCMonth() + 1,
            date.getUTCFullYear() % 100,
            Math.floor(date.getUTCFullYear() / 100),
          ].flatMap((value, i) => write(TIME[i]!, Number.parseInt(String(value), 16))),
          ...write(B, HOURS_24),
        ];
        const next = new Date((days + 1) * day);
        const script = [...startAt(WALL_CLOCK), ...set, `time ${86_400n * 1_000_000_000n}`, ...readTime];
        const [, , , week, ofMonth, month, year, century] = answersOf(script, ['in']).map(bcd);
        expect([week, ofMonth, month, century! * 100 + year!]).toEqual([
          next.getUTCDay() + 1,
          next.getUTCDate(),
          next.getUTCMonth() + 1,
          next.getUTCFullYear(),
        ]);
      },
    ),
    { numRuns: 200 },
  );
});

test('the memory size is where firmware leaves it', () => {
  const sizes = [0x15, 0x16, 0x17, 0x18, 0x30, 0x31, 0x34, 0x35].flatMap((index) => read(index));
  expect(answersOf([`reset ${256 << 20} 0`, ...sizes], ['in']).map(Number)).toEqual([
    0x80, 0x02, 0xff, 0xff, 0xff, 0xff, 0x00, 0x0f,
  ]);
  expect(answersOf([`reset ${8 << 20} 0`, ...sizes], ['in']).map(Number)).toEqual([
    0x80, 0x02, 0x00, 0x1c, 0x00, 0x1c, 0, 0,
  ]);
});

test('no deadline unless an interrupt is enabled, and none while one waits', () => {
  const script = [
    ...startAt('2024-01-01T00:00:00'),
    'deadline',
    ...write(B, HOURS_24 | UPDATE),
    'deadline',
    'until 1000000000',
    'deadline',
    ...read(C),
    'deadline',
  ];
  expect(answersOf(script, ['deadline'])).toEqual(['never', '1000000000', 'never', '2000000000']);
});

test('no period has ended only because another rate was chosen', () => {
  const script = [
    ...[...startAt('2024-01-01T00:00:00'), ...write(A, 0x2f), 'time 700000000', ...read(C, PERIODIC)],
    ...[...write(A, 0x23), ...read(C, PERIODIC), 'time 700122071', ...read(C, PERIODIC)],
    ...[...write(A, 0x2f), ...read(C, PERIODIC), 'time 1000000000', ...read(C, PERIODIC)],
  ];
  const flags = answersOf(script, ['in']).map((answer) => Number(answer) & PERIODIC);
  expect(flags).toEqual([PERIODIC, 0, PERIODIC, 0, PERIODIC]);
});

test('an alarm that passed while nobody looked is flagged', () => {
  const alarm = [...write(5, 0x04), ...write(3, 0x30), ...write(1, 0x15)];
  const after = (seconds: number) =>
    answersOf(
      [
        ...startAt('2024-01-01T00:00:00'),
        ...write(B, HOURS_24),
        ...alarm,
        ...read(C),
        `time ${BigInt(seconds) * 1_000_000_000n}`,
        ...read(C),
      ],
      ['in'],
    ).map((answer) => Number(answer) & ALARM);
  const due = 4 * 3600 + 30 * 60 + 15;
  expect(after(due - 1)).toEqual([0, 0]);
  expect(after(due)).toEqual([0, ALARM]);
  expect(after(400 * 86_400)).toEqual([0, ALARM]);
});
