/** Timer, UART and real-time clock interrupting together, taken by QEMU's processor and by ours. */

import { expect, test } from 'vitest';
import { play } from './player.ts';
import { Random } from './random.ts';

const out = (port: number, value: number): string => `out 0x${port.toString(16)} 1 0x${value.toString(16)}`;
const rtc = (index: number, value: number): string[] => [out(0x70, index), out(0x71, value)];

/** IRQ 0, 4 and 8, each raised on its own: the timer once, the others until they are asked why. */
const RAISE = [
  [out(0x43, 0x30), out(0x40, 20), out(0x40, 0)],
  [out(0x3f9, 2)],
  [...rtc(0x0b, 0x42)], // periodic, every 244 us
];
const SILENCE = [out(0x3f9, 0), ...rtc(0x0b, 0x02), out(0x70, 0x0c), 'in 0x71 1 0'];

const initialize = (master: number, slave: number): string[] => [
  ...[0x11, 0x20, 4, master].map((value, i) => out(i ? 0x21 : 0x20, value)),
  ...[0x11, 0x28, 2, slave].map((value, i) => out(i ? 0xa1 : 0xa0, value)),
];

/** ICW4: plain, automatic EOI. */
const MASTER_MODES = [0x01, 0x01, 0x03];

/** What a handler may do. */
const steps: readonly ((random: Random) => string[])[] = [
  () => ['ack'],
  () => [out(0x20, 0x20)],
  () => [out(0xa0, 0x20)],
  (random) => [out(0x20, 0x60 | random.pick([0, 2, 4]))],
  (random) => [out(0x20, 0xc0 | random.below(8))],
  (random) => [out(0x20, random.pick([0xa0, 0x80, 0x00]))],
  (random) => [out(0x21, random.pick([0, 0x01, 0x04, 0x10, 0x11, 0x14]))],
  () => [out(0x20, 0x0b), 'in 0x20 1', out(0x20, 0x0a), 'in 0x20 1'],
  () => [out(0xa0, 0x0b), 'in 0xa0 1', out(0xa0, 0x0a), 'in 0xa0 1'],
];

/** Takes whatever is left, so that no request is withdrawn (qemu-exceptions.test.ts). */
const DRAIN = [
  out(0x21, 0),
  ...Array.from({ length: 4 }, () => [
    out(0xa0, 0x60),
    out(0x20, 0x60),
    out(0x20, 0x62),
    out(0x20, 0x64),
    'ack',
  ]).flat(),
];

test.each([1, 2, 3])('rounds of interrupts agree with QEMU: seed %i', (seed) => {
  const random = new Random(seed);
  const script = [...initialize(1, 1), out(0x4d0, 0x10), out(0x3fc, 8), ...rtc(0x0a, 0x24), ...rtc(0x0b, 2)];
  for (let round = 0; round < 80; round++) {
    script.push(
      ...initialize(random.pick(MASTER_MODES), 1),
      out(0x21, random.pick([0, 0x01, 0x04, 0x10, 0x15])),
    );
    for (const cause of RAISE) if (random.below(3)) script.push(...cause);
    script.push('wait 600000');
    for (let step = 0; step < 12; step++) script.push(...random.pick(steps)(random));
    script.push(...DRAIN, ...SILENCE);
  }
  const { ours, qemus } = play(script);
  expect(new Set(ours.filter((line) => line.includes('ack')).map((line) => line.split('-> ')[1]))).toEqual(
    new Set(['none', '0x20', '0x24', '0x28']),
  );
  expect(ours).toEqual(qemus);
});
