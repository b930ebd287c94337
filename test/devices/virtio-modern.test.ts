/** virtio-blk's registers in memory: beside QEMU's own, what a driver does, what a hostile one tries. */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { answersOf, runHarness, type Variant } from './harness.ts';
import { runQtest } from './qtest.ts';

const RAM = 1 << 20;
const SECTORS = 64;
const BASE = 0xfe00_0000;
const ISR = 0x1000;
const DEVICE = 0x2000;
const NOTIFY = 0x3000;
/** Offsets in the common configuration (virtio 1.1, 4.1.4.3). */
const COMMON = {
  deviceFeatureSelect: 0,
  deviceFeature: 4,
  driverFeatureSelect: 8,
  driverFeature: 12,
  vector: 16,
  queues: 18,
  status: 20,
  generation: 21,
  queueSelect: 22,
  queueSize: 24,
  queueVector: 26,
  queueEnable: 28,
  notifyOffset: 30,
  desc: 32,
  driver: 40,
  device: 48,
} as const;

const RESET = `reset ${RAM} ${SECTORS}`;
const store = (offset: number, size: number, value: number): string =>
  `store ${BASE + offset} ${size} ${value}`;
const load = (offset: number, size: number): string => `load ${BASE + offset} ${size}`;
const config = (offset: number): string => `out 0xcf8 4 ${(0x80000000 | (3 << 11) | offset) >>> 0}`;
const poke = (address: number, bytes: Buffer): string => `poke ${address} ${bytes.toString('hex')}`;

const FEATURES_OK = 8;
const DRIVER_OK = 4;
/** Offered above the lowest 32: VERSION_1. */
const HIGH_FEATURES = 1;

const DESC = 0x10000;
const AVAILABLE = 0x14002;
const USED = 0x18004;
const HEADER = 0x20000;
const DATA = 0x21000;
const STATUS = 0x20800;

const NEGOTIATE = [
  store(COMMON.status, 1, 0),
  store(COMMON.status, 1, 3),
  store(COMMON.driverFeatureSelect, 4, 1),
  store(COMMON.driverFeature, 4, HIGH_FEATURES),
  store(COMMON.status, 1, 3 | FEATURES_OK),
];

const queue = (size: number): string[] => [
  store(COMMON.queueSelect, 2, 0),
  store(COMMON.queueSize, 2, size),
  ...[DESC, AVAILABLE, USED].flatMap((address, n) => [
    store(COMMON.desc + 8 * n, 4, address),
    store(COMMON.desc + 8 * n + 4, 4, 0),
  ]),
  store(COMMON.queueEnable, 2, 1),
  store(COMMON.status, 1, 3 | FEATURES_OK | DRIVER_OK),
];

function words(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(2 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt16LE(value, 2 * i);
  return bytes;
}

function descriptor(address: number, length: number, flags: number, next: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32LE(address, 0);
  bytes.writeUInt32LE(length, 8);
  bytes.writeUInt16LE(flags, 12);
  bytes.writeUInt16LE(next, 14);
  return bytes;
}

/** Writes a sector of `fill` to sector 5. */
function writeRequest(fill: number): string[] {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(1, 0);
  header.writeUInt32LE(5, 8);
  return [
    poke(HEADER, header),
    poke(DATA, Buffer.alloc(512, fill)),
    poke(STATUS, Buffer.from([0xee])),
    poke(
      DESC,
      Buffer.concat([descriptor(HEADER, 16, 1, 1), descriptor(DATA, 512, 1, 2), descriptor(STATUS, 1, 2, 0)]),
    ),
    poke(AVAILABLE, words(0, 1, 0)),
    store(NOTIFY, 2, 0),
  ];
}

test('capabilities lead to the registers, which have the same forms as QEMU has', async () => {
  // QEMU offers more features and knows a geometry; the rest is to be the same.
  const registers = [
    ...['vector', 'queues', 'queueSelect', 'queueSize', 'queueVector', 'queueEnable', 'notifyOffset'].map(
      (name) => load(COMMON[name as keyof typeof COMMON], 2),
    ),
    load(COMMON.status, 1),
    load(COMMON.generation, 1),
  ];
  const script = [
    config(0x20),
    `out 0xcfc 4 ${BASE}`,
    'in 0xcfc 4',
    config(0x24),
    'in 0xcfc 4',
    config(4),
    'out 0xcfc 2 7',
    ...registers,
    store(COMMON.deviceFeatureSelect, 4, 1),
    load(COMMON.deviceFeatureSelect, 4),
    ...NEGOTIATE,
    load(COMMON.status, 1),
    store(COMMON.queueSelect, 2, 7),
    ...registers,
    ...queue(128),
    load(COMMON.queueSize, 2),
    load(COMMON.queueEnable, 2),
    load(COMMON.desc, 4),
    load(COMMON.driver, 4),
    load(COMMON.device, 4),
    load(DEVICE, 4),
    load(DEVICE + 4, 4),
    load(DEVICE + 20, 4),
    load(ISR, 1),
    ...writeRequest(0x5a),
    store(COMMON.status, 1, 0),
    ...registers,
  ].filter((command) => !command.startsWith('poke'));
  const disk = ['-drive', `if=none,id=disk,driver=null-co,size=${SECTORS * 512}`];
  const device = 'virtio-blk-pci,drive=disk,disable-legacy=off,vectors=0,addr=3,queue-size=256,num-queues=1';
  const without = script.filter((command) => !command.startsWith('store 4261425152'));
  const expected = await runQtest(without, [...disk, '-device', device]);
  expect(runHarness([RESET, ...without]).slice(1)).toEqual(expected);
});

test.each(['x86-64', 'i386'] as const)(
  'a driver writes through rings at addresses of their own: %s',
  (variant: Variant) => {
    const script = [RESET, ...NEGOTIATE, ...queue(8), ...writeRequest(0x77)];
    const results = [`peek ${STATUS} 1`, `peek ${USED} 12`, load(ISR, 1), load(ISR, 1), `disk ${5 * 512} 4`];
    expect(runHarness([...script, ...results], variant).slice(-5)).toEqual([
      '00',
      `0000010000000000${'01000000'}`,
      '0x1',
      '0x0',
      '77777777',
    ]);
  },
);

test('features that were not offered are not agreed to, and a running queue stays where it is', () => {
  const refuse = [store(COMMON.driverFeatureSelect, 4, 0), store(COMMON.driverFeature, 4, 1 << 20)];
  const status = [store(COMMON.status, 1, 3 | FEATURES_OK), load(COMMON.status, 1)];
  const moved = [
    store(COMMON.desc, 4, 0x1000),
    load(COMMON.desc, 4),
    store(COMMON.queueSize, 2, 2),
    load(COMMON.queueSize, 2),
  ];
  expect(answersOf([RESET, ...refuse, ...status, ...NEGOTIATE, ...queue(8), ...moved], ['load'])).toEqual([
    '0x3',
    `0x${DESC.toString(16)}`,
    '0x8',
  ]);
});

test('the registers are where the BAR says, unless that is RAM or they are switched off', () => {
  const move = (address: number): string[] => [config(0x20), `out 0xcfc 4 ${address}`];
  const at = (address: number): string => `load ${address + COMMON.queueSize} 2`;
  const script = [
    ...[RESET, at(BASE), ...move(0xe0004000), at(BASE), at(0xe0004000), ...move(0x4000), at(0x4000)],
    ...[...move(0xffffc000), at(0xffffc000), config(4), 'out 0xcfc 2 5', at(0xffffc000)],
    ...['out 0xcfc 2 7', config(0x24), 'out 0xcfc 4 1', at(0xffffc000)],
  ];
  expect(answersOf(script, ['load'])).toEqual(['0x100', 'none', '0x100', 'none', '0x100', 'none', 'none']);
});

test('whatever is written, nothing outside of RAM is touched', () => {
  const command = fc.tuple(
    fc.oneof(fc.integer({ min: 0, max: 60 }), fc.constantFrom(NOTIFY, ISR, DEVICE, 0x3ffc)),
    fc.constantFrom(1, 2, 4),
    fc.oneof(fc.integer({ min: 0, max: 0xffffffff }), fc.constantFrom(0, 1, 8, DESC, RAM - 8)),
  );
  fc.assert(
    fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
      const script = commands.map(([offset, size, value]) => store(offset, size, value));
      runHarness(
        [RESET, ...NEGOTIATE, ...queue(8), ...writeRequest(1), ...script, store(NOTIFY, 2, 0)],
        'sanitized',
      );
    }),
    { numRuns: 20 },
  );
});
