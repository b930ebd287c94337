/** The i8254: random sequences at QEMU's own nanoseconds, then what the data sheet says and QEMU does not do. */

import { expect, test } from 'vitest';
import { MOST_OWED } from '../../src/machine/devices.ts';
import { answersOf, runHarness } from './harness.ts';
import { play } from './player.ts';
import { Random } from './random.ts';

const HERTZ = 1193182n;
/** The first nanosecond at which so many clocks have passed. */
const clocks = (count: number): bigint => (BigInt(count) * 1_000_000_000n + HERTZ - 1n) / HERTZ;

const out = (port: number, value: number): string => `out 0x${port.toString(16)} 1 0x${value.toString(16)}`;
const CONTROL = 0x43;
const GATE_ON = out(0x61, 1);
const GATE_OFF = out(0x61, 0);
/** Bit 5 of port 61 is OUT of channel 2. */
const OUT_2 = 'in 0x61 1 0x20';

const MASTER_INITIALIZED = [out(0x20, 0x11), out(0x21, 0x20), out(0x21, 4), out(0x21, 1), out(0x21, 0xfe)];
const EOI = out(0x20, 0x20);

/** Control word and count, low byte first. */
function program(channel: number, mode: number, count: number, bcd = 0): string[] {
  const port = 0x40 + channel;
  return [
    out(CONTROL, (channel << 6) | 0x30 | (mode << 1) | bcd),
    out(port, count & 0xff),
    out(port, count >> 8),
  ];
}

/** Modes whose counting QEMU gets right as long as the gate is high; the rest is in qemu-exceptions.test.ts. */
const COMPARABLE_MODES = [0, 2, 3, 4] as const;
/** Modes in which QEMU's OUT is right too. */
const COMPARABLE_OUT: readonly number[] = [0, 3];

function randomProgram(random: Random, channel: number): { script: string[]; mode: number; access: number } {
  const mode = random.pick(COMPARABLE_MODES);
  const access = 1 + random.below(3);
  const port = 0x40 + channel;
  const low = random.below(256) & (mode === 3 ? 0xfe : 0xff);
  const high = random.below(256);
  const control = out(CONTROL, (channel << 6) | (access << 4) | (mode << 1));
  const bytes = { 1: [low || 2], 2: [high || 1], 3: [low, high] }[access]!;
  return { script: [control, ...bytes.map((byte) => out(port, byte))], mode, access };
}

function randomReads(random: Random, channel: number, mode: number, access: number): string[] {
  const port = `0x${(0x40 + channel).toString(16)}`;
  const reads = Array.from({ length: access === 3 ? 2 : 1 }, () => `in ${port} 1`);
  switch (random.below(5)) {
    case 0:
      return reads;
    case 1:
      return [out(CONTROL, channel << 6), `wait ${random.below(5000)}`, out(CONTROL, channel << 6), ...reads];
    case 2:
      return [out(CONTROL, 0xd0 | (2 << channel)), ...reads];
    case 3:
      return COMPARABLE_OUT.includes(mode) ? [out(CONTROL, 0xe0 | (2 << channel)), `in ${port} 1`] : reads;
    default:
      return COMPARABLE_OUT.includes(mode)
        ? [out(CONTROL, 0xc0 | (2 << channel)), `in ${port} 1`, `wait ${random.below(3000)}`, ...reads]
        : reads;
  }
}

test.each([
  { seed: 1, variant: 'x86-64' },
  { seed: 2, variant: 'x86-64' },
  { seed: 3, variant: 'i386' },
] as const)(
  'random programs of channels 1 and 2 agree with QEMU: seed $seed, $variant',
  ({ seed, variant }) => {
    const random = new Random(seed);
    const script = [GATE_ON];
    for (let round = 0; round < 60; round++) {
      const channel = 1 + random.below(2);
      const { script: setting, mode, access } = randomProgram(random, channel);
      script.push(...setting);
      for (let reads = random.below(8); reads >= 0; reads--) {
        script.push(`wait ${random.below(random.pick([2000, 100_000, 3_000_000]))}`);
        script.push(...randomReads(random, channel, mode, access));
        if (channel === 2 && COMPARABLE_OUT.includes(mode)) script.push(OUT_2);
      }
    }
    const { ours, qemus } = play(script, variant);
    expect(ours).toEqual(qemus);
  },
);

test("interrupts of channel 0 come when QEMU's come", () => {
  const tick = (wait: number) => [`wait ${wait}`, 'ack'];
  const script = [
    ...MASTER_INITIALIZED,
    ...program(0, 2, 11932), // 10 ms
    ...Array.from({ length: 30 }, () => [...tick(1_700_000), EOI]).flat(),
    ...program(0, 3, 2386), // 2 ms
    ...Array.from({ length: 30 }, () => [...tick(330_000), EOI]).flat(),
    ...program(0, 0, 1193), // 1 ms, once
    ...tick(990_000),
    ...tick(10_000),
    EOI,
    ...tick(5_000_000),
    ...program(0, 4, 1193),
    ...tick(990_000),
    ...tick(12_000), // QEMU is one clock early in this mode
    EOI,
    ...tick(5_000_000),
  ];
  const { ours, qemus } = play(script);
  expect(ours.filter((line) => !line.endsWith('none')).length).toBeGreaterThan(9);
  expect(ours).toEqual(qemus);
});

/** Reads the latched count of a channel, as the two bytes of `answersOf(..., ['in'])`. */
const latched = (channel: number): string[] => [
  out(CONTROL, channel << 6),
  `in 0x${40 + channel} 1`,
  `in 0x${40 + channel} 1`,
];

/** In the middle of a clock, as a counter loaded in between rounds up. */
const within = (moment: number): bigint => clocks(moment) + 400n;

/** Counts of channel 2 in these clocks of the machine's time. */ function countsAt(
  script: readonly string[],
  moments: readonly number[],
): number[] {
  const reads = moments.flatMap((moment) => [`time ${within(moment)}`, ...latched(2)]);
  const bytes = answersOf([...script, ...reads], ['in'])
    .map(Number)
    .slice(-2 * moments.length);
  return moments.map((_, i) => bytes[2 * i]! | (bytes[2 * i + 1]! << 8));
}

/** Levels of OUT of channel 2, as a picture: - is high, _ is low. */
function outputAt(script: readonly string[], moments: readonly number[]): string {
  const reads = moments.flatMap((moment) => [`time ${within(moment)}`, OUT_2]);
  return answersOf([...script, ...reads], ['in'])
    .slice(-moments.length)
    .map((answer) => (Number(answer) & 0x20 ? '-' : '_'))
    .join('');
}

const upTo = (end: number): number[] => Array.from({ length: end }, (_, i) => i);

test.each([
  { mode: 0, count: 4, counts: [4, 3, 2, 1, 0, 0xffff, 0xfffe], output: '____---' },
  { mode: 2, count: 3, counts: [3, 2, 1, 3, 2, 1, 3], output: '--_--_-' },
  { mode: 3, count: 4, counts: [4, 2, 4, 2, 4, 2, 4], output: '--__--_' },
  { mode: 3, count: 5, counts: [4, 2, 0, 4, 2, 4, 2], output: '---__--' },
  { mode: 4, count: 3, counts: [3, 2, 1, 0, 0xffff, 0xfffe, 0xfffd], output: '---_---' },
])("the data sheet's diagram of mode $mode, count $count", ({ mode, count, counts, output }) => {
  const script = [GATE_ON, ...program(2, mode, count)];
  expect(countsAt(script, upTo(7))).toEqual(counts);
  expect(outputAt(script, upTo(7))).toBe(output);
});

test.each([
  { mode: 1, output: '___----' },
  { mode: 5, output: '---_---' },
])('mode $mode waits for the gate to rise, and starts anew when it rises again', ({ mode, output }) => {
  const untriggered = [GATE_ON, ...program(2, mode, 3)];
  expect(outputAt(untriggered, upTo(7))).toBe('-------');
  const triggered = [...untriggered, GATE_OFF, GATE_ON];
  expect(outputAt(triggered, upTo(7))).toBe(output);
  expect(
    outputAt([...untriggered, GATE_OFF, GATE_ON, `time ${clocks(2)}`, GATE_OFF, GATE_ON], [3, 4, 5, 6]),
  ).toBe(output.slice(1, 5));
});

test('a low gate stops modes 0 and 4 and restarts modes 2 and 3', () => {
  const paused = (mode: number) => [
    GATE_ON,
    ...program(2, mode, 10),
    `time ${clocks(4)}`,
    GATE_OFF,
    `time ${clocks(50)}`,
    GATE_ON,
  ];
  expect(countsAt(paused(0), [50, 52])).toEqual([6, 4]);
  expect(countsAt(paused(4), [50, 52])).toEqual([6, 4]);
  expect(countsAt(paused(2), [50, 52])).toEqual([10, 8]);
  expect(countsAt(paused(3), [50, 52])).toEqual([10, 6]);
  expect(outputAt([GATE_ON, ...program(2, 3, 10), `time ${clocks(7)}`, GATE_OFF], [7])).toBe('-');
});

test('a new count in mode 2 waits for the end of the cycle, in mode 3 for the end of the half cycle', () => {
  const rewritten = (mode: number) => [
    GATE_ON,
    ...program(2, mode, 8),
    `time ${clocks(1)}`,
    out(0x42, 4),
    out(0x42, 0),
  ];
  expect(outputAt(rewritten(2), [1, 6, 7, 8, 9, 10, 11, 12])).toBe('--_---_-');
  expect(outputAt(rewritten(3), [1, 2, 3, 4, 5, 6, 7, 8, 9])).toBe('---__--__');
});

test('binary-coded decimal counts wrap at 10000', () => {
  const script = [GATE_ON, ...program(2, 0, 0x1002, 1)];
  expect(countsAt(script, [0, 1, 3, 1002, 1003])).toEqual([0x1002, 0x1001, 0x0999, 0, 0x9999]);
  expect(countsAt([GATE_ON, ...program(2, 2, 0, 1)], [0, 1, 9999, 10000])).toEqual([0, 0x9999, 1, 0]);
});

test('the status tells that a count is not loaded yet', () => {
  const status = [out(CONTROL, 0xe8), 'in 0x42 1'];
  const script = [GATE_ON, out(CONTROL, 0xb0), ...status, out(0x42, 5), ...status, out(0x42, 0), ...status];
  expect(answersOf(script, ['in'])).toEqual(['0x70', '0x70', '0x30']);
});

test('a latched count stays until it is read or the counter is programmed anew', () => {
  const script = [
    GATE_ON,
    ...program(2, 0, 0x1234),
    out(CONTROL, 0x80),
    `time ${clocks(99)}`,
    out(CONTROL, 0x80),
  ];
  expect(countsAt(script, [200, 201])).toEqual([0x1234, 0x1234 - 201]);
  expect(answersOf([...script, out(CONTROL, 0x90), out(0x42, 7), 'in 0x42 1'], ['in'])).toEqual(['0x7']);
});

test('missed ticks are delivered one after the other, within bounds', () => {
  const period = 1193; // 1 ms
  const script = [...MASTER_INITIALIZED, ...program(0, 2, period)];
  const drain = Array.from({ length: 12 }, () => ['ack', EOI]).flat();
  const late = (missed: number) => [...script, `time ${clocks(period * missed)}`, 'run', ...drain];
  const vectors = (answers: readonly string[]) => answers.filter((answer) => answer === '0x20').length;
  expect(vectors(answersOf(late(1), ['ack']))).toBe(1);
  expect(vectors(answersOf(late(7), ['ack']))).toBe(7);
});

test('of a week that a guest missed a day is owed', () => {
  const owed = Math.floor((MOST_OWED * 1193182) / 65536);
  const week = [...MASTER_INITIALIZED, ...program(0, 2, 0), `time ${7 * MOST_OWED * 1e9}`, 'run', 'drain'];
  expect(answersOf(week, ['drain'])).toEqual([`${owed + 1}`]);
});

test('what is owed is paid for half of the time at most', () => {
  const period = 11932; // 10 ms
  const tenth = (n: number): bigint => clocks(period * 50) + BigInt(n) * 1_000_000n;
  // An interrupt takes a millisecond; one is due every ten. The last that is owed in a turn is taken after it.
  const script = [
    ...MASTER_INITIALIZED,
    ...program(0, 2, period),
    `time ${tenth(0)}`,
    'run',
    ...Array.from({ length: 40 }, (_, n) => [`time ${tenth(n)}`, 'run', 'ack', EOI]).flat(),
  ];
  const taken = answersOf(script, ['ack'])
    .map((answer) => (answer === '0x20' ? 'x' : '.'))
    .join('');
  expect(taken).toBe('xxxxxxx....xxxxxxx...xxxxxxx...xxxxxxx..');
});

test('ticks are not owed while the guest masks them', () => {
  const script = [
    ...MASTER_INITIALIZED,
    ...program(0, 2, 1193),
    out(0x21, 0xff),
    `time ${clocks(11930)}`,
    'run',
    out(0x21, 0xfe),
    'ack',
    EOI,
    'ack',
  ];
  expect(answersOf(script, ['ack'])).toEqual(['0x20', 'none']);
});

test('ticks are owed that a guest missed because it stood still, masked or not, and none twice', () => {
  const stood = (mask: number) => [
    ...MASTER_INITIALIZED,
    ...program(0, 2, 1193),
    out(0x21, mask),
    `time ${clocks(1193 + 500)}`,
    `still ${clocks(1193 * 8 + 500)}`,
    'run',
    out(0x21, 0xfe),
    ...Array.from({ length: 12 }, () => ['ack', EOI]).flat(),
  ];
  for (const mask of [0xfe, 0xff])
    expect(answersOf(stood(mask), ['ack']).filter((answer) => answer === '0x20')).toHaveLength(8);
});

test('the deadline is the next edge that can interrupt', () => {
  const script = [
    'deadline',
    ...MASTER_INITIALIZED,
    ...program(0, 2, 1193),
    'deadline',
    `until ${clocks(1193)}`,
    'deadline',
    ...program(0, 0, 100),
    'deadline',
    out(0x21, 0xff),
    'deadline',
  ];
  const oneShot = clocks(1193) + clocks(100);
  expect(answersOf(script, ['deadline'])).toEqual([
    'never',
    `${clocks(1193)}`,
    `${clocks(2386)}`,
    `${oneShot}`,
    'never',
  ]);
});

test('the memory refresh toggle of port 61 changes every 15 us', () => {
  const reads = [0, 17, 18, 35, 36].flatMap((moment) => [`time ${clocks(moment)}`, 'in 0x61 1']);
  expect(answersOf(['reset 0x100000 0', ...reads], ['in']).map((answer) => Number(answer) & 0x10)).toEqual([
    0, 0, 16, 16, 0,
  ]);
});

test('hostile programs do not stop the timer', () => {
  const script = [...MASTER_INITIALIZED];
  for (let control = 0; control < 256; control++)
    for (const count of [0, 1, 255])
      script.push(out(CONTROL, control), out(0x40 | ((control >> 6) & 3), count), `in 0x40 1`, 'run');
  expect(() =>
    runHarness([...script, 'time 0xffffffffffff', 'run', 'in 0x40 1', 'in 0x42 1'], 'sanitized'),
  ).not.toThrow();
});
