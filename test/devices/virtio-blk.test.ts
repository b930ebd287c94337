/** virtio-blk: what a driver does, what a hostile one tries, and the PCI function it sits behind. */

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { answersOf, runHarness, type Variant } from './harness.ts';

const RAM = 1 << 20;
const SECTORS = 64;
const BASE = 0xc000;
const QUEUE_SIZE = 256;
const RING = 0x10000;
const AVAILABLE = RING + 16 * QUEUE_SIZE;
const USED = RING + 0x2000;
const HEADER = 0x20000;
const DATA = 0x21000;
const STATUS = 0x20800;
const NEXT = 1;
const WRITE = 2;
const INDIRECT = 4;
const TYPE = { read: 0, write: 1, flush: 4, identify: 8, unknown: 77 } as const;

const RESET = `reset ${RAM} ${SECTORS}`;
const out = (offset: number, size: number, value: number): string => `out ${BASE + offset} ${size} ${value}`;
const register = (offset: number, size: number): string => `in ${BASE + offset} ${size}`;
const poke = (address: number, bytes: Buffer): string => `poke ${address} ${bytes.toString('hex')}`;
const START = [out(18, 1, 7), out(14, 2, 0), out(8, 4, RING >> 12)];
const NOTIFY = out(16, 2, 0);

interface Descriptor {
  readonly address: number | bigint;
  readonly length: number;
  readonly flags: number;
  readonly next: number;
}

function descriptors(table: readonly Descriptor[], ring = RING): string {
  const bytes = Buffer.alloc(16 * table.length);
  table.forEach(({ address, length, flags, next }, i) => {
    bytes.writeBigUInt64LE(BigInt(address), 16 * i);
    bytes.writeUInt32LE(length, 16 * i + 8);
    bytes.writeUInt16LE(flags, 16 * i + 12);
    bytes.writeUInt16LE(next, 16 * i + 14);
  });
  return poke(ring, bytes);
}

function words(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(2 * values.length);
  for (const [i, value] of values.entries()) bytes.writeUInt16LE(value, 2 * i);
  return bytes;
}

/** The available ring: flags, index, entries. */
const available = (index: number, heads: readonly number[], flags = 0, ring = RING): string =>
  poke(ring + AVAILABLE - RING, words(flags, index, ...heads));

function header(type: number, sector: number | bigint): string {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt32LE(type, 0);
  bytes.writeBigUInt64LE(BigInt(sector), 8);
  return poke(HEADER, bytes);
}

/** A chain as a driver would lay it: header, data, status. */
function chain(data: readonly Pick<Descriptor, 'address' | 'length' | 'flags'>[]): Descriptor[] {
  const parts = [
    { address: HEADER, length: 16, flags: 0 },
    ...data,
    { address: STATUS, length: 1, flags: WRITE },
  ];
  return parts.map((part, i) =>
    i + 1 < parts.length ? { ...part, flags: part.flags | NEXT, next: i + 1 } : { ...part, next: 0 },
  );
}

const request = (
  type: number,
  sector: number | bigint,
  data: readonly Pick<Descriptor, 'address' | 'length' | 'flags'>[],
): string[] => [
  header(type, sector),
  descriptors(chain(data)),
  poke(STATUS, Buffer.from([0xee])),
  available(1, [0]),
  NOTIFY,
];
const RESULT = [`peek ${STATUS} 1`, `peek ${USED} 12`, register(19, 1)];
/** What RESULT reads after a request was completed with this status. */
const completed = (status: number, written: number): string[] => [
  Buffer.from([status]).toString('hex'),
  `00000100${'00000000'}${words(written & 0xffff, written >> 16).toString('hex')}`,
  '0x1',
];
/** What it reads while the device has not touched anything. */
const UNTOUCHED = ['ee', '0'.repeat(24), '0x0'];

const last = (commands: readonly string[], count: number, variant?: Variant): string[] =>
  runHarness(commands, variant).slice(-count);
const sector = (fill: number, count = 1): Buffer => Buffer.alloc(512 * count, fill);

test('registers and configuration', () => {
  const capacity = [register(20, 4), register(24, 4)];
  const script = [
    RESET,
    register(0, 4),
    register(12, 2),
    out(14, 2, 1),
    register(12, 2),
    register(18, 1),
    ...capacity,
    register(40, 4),
  ];
  expect(answersOf(script, ['in'])).toEqual(['0x244', '0x100', '0x0', '0x0', '0x40', '0x0', '0x200']);
});

test.each(['x86-64', 'i386'] as const)(
  'writes, reads back over several descriptors, flushes: %s',
  (variant) => {
    const written = Buffer.concat([sector(0x11), sector(0x22), sector(0x33)]);
    const script = [
      RESET,
      ...START,
      poke(DATA, written),
      ...request(TYPE.write, 5, [
        { address: DATA, length: 1024, flags: 0 },
        { address: DATA + 1024, length: 512, flags: 0 },
      ]),
      ...RESULT,
      `disk ${5 * 512} 1536`,
    ];
    expect(last(script, 4, variant)).toEqual([...completed(0, 1), written.toString('hex')]);
    const reading = [
      ...script,
      out(18, 1, 0),
      poke(USED, Buffer.alloc(12)),
      ...START,
      ...request(TYPE.read, 6, [
        { address: DATA + 0x4000, length: 512, flags: WRITE },
        { address: DATA + 0x4200, length: 512, flags: WRITE },
      ]),
      ...RESULT,
      `peek ${DATA + 0x4000} 1024`,
    ];
    expect(last(reading, 4, variant)).toEqual([...completed(0, 1025), written.subarray(512).toString('hex')]);
    expect(last([RESET, ...START, ...request(TYPE.flush, 0, []), ...RESULT], 3, variant)).toEqual(
      completed(0, 1),
    );
  },
);

test('what is written is flushed for a driver that has not agreed to do so itself', () => {
  const write = request(TYPE.write, 0, [{ address: DATA, length: 512, flags: 0 }]);
  const agree = out(4, 4, 1 << 9);
  expect(answersOf([RESET, ...START, ...write, 'flushed'], ['flushed'])).toEqual(['yes']);
  expect(answersOf([RESET, agree, ...START, ...write, 'flushed'], ['flushed'])).toEqual(['no']);
});

test('tells its identity, and refuses what it does not know', () => {
  const identify = request(TYPE.identify, 0, [{ address: DATA, length: 20, flags: WRITE }]);
  expect(last([RESET, ...START, ...identify, ...RESULT, `peek ${DATA} 20`], 4)).toEqual([
    ...completed(0, 21),
    Buffer.from('previrt'.padEnd(20, '\0')).toString('hex'),
  ]);
  const unknown = request(TYPE.unknown, 0, [{ address: DATA, length: 512, flags: WRITE }]);
  expect(last([RESET, ...START, ...unknown, ...RESULT], 3)).toEqual(completed(2, 1));
});

test.each([
  {
    what: 'beyond the end',
    type: TYPE.read,
    at: SECTORS,
    data: { address: DATA, length: 512, flags: WRITE },
  },
  {
    what: 'across the end',
    type: TYPE.write,
    at: SECTORS - 1,
    data: { address: DATA, length: 1024, flags: 0 },
  },
  {
    what: 'far beyond the end',
    type: TYPE.read,
    at: Number.MAX_SAFE_INTEGER,
    data: { address: DATA, length: 512, flags: WRITE },
  },
  {
    what: 'so far that the end wraps',
    type: TYPE.read,
    at: (1n << 64n) - 1n,
    data: { address: DATA, length: 512, flags: WRITE },
  },
  {
    what: 'an identity that does not fit',
    type: TYPE.identify,
    at: 0,
    data: { address: DATA, length: 19, flags: WRITE },
  },
  { what: 'no whole sector', type: TYPE.read, at: 0, data: { address: DATA, length: 511, flags: WRITE } },
  {
    what: 'into memory the driver only lends',
    type: TYPE.read,
    at: 0,
    data: { address: DATA, length: 512, flags: 0 },
  },
  {
    what: 'from memory the driver wants filled',
    type: TYPE.write,
    at: 0,
    data: { address: DATA, length: 512, flags: WRITE },
  },
  { what: 'outside RAM', type: TYPE.read, at: 0, data: { address: RAM - 256, length: 512, flags: WRITE } },
  {
    what: 'address that wraps',
    type: TYPE.read,
    at: 0,
    data: { address: 0xfffffffffffffe00n, length: 512, flags: WRITE },
  },
])('an impossible request ends with an error: $what', ({ type, at, data }) => {
  expect(last([RESET, ...START, ...request(type, at, [data]), ...RESULT], 3, 'sanitized')).toEqual(
    completed(1, 1),
  );
});

test.each([
  {
    what: 'a loop',
    table: [
      { address: HEADER, length: 16, flags: NEXT, next: 1 },
      { address: DATA, length: 512, flags: WRITE | NEXT, next: 1 },
    ],
  },
  { what: 'one descriptor only', table: [{ address: HEADER, length: 16, flags: 0, next: 0 }] },
  { what: 'an index outside the table', table: [{ address: HEADER, length: 16, flags: NEXT, next: 256 }] },
  {
    what: 'an indirect table that was not offered',
    table: [{ address: HEADER, length: 16, flags: INDIRECT, next: 0 }],
  },
  {
    what: 'a header outside RAM',
    table: [
      { address: RAM - 8, length: 16, flags: NEXT, next: 1 },
      { address: STATUS, length: 1, flags: WRITE, next: 0 },
    ],
  },
  {
    what: 'a short header',
    table: [
      { address: HEADER, length: 8, flags: NEXT, next: 1 },
      { address: STATUS, length: 1, flags: WRITE, next: 0 },
    ],
  },
  {
    what: 'a status the device may not write',
    table: [
      { address: HEADER, length: 16, flags: NEXT, next: 1 },
      { address: STATUS, length: 1, flags: 0, next: 0 },
    ],
  },
])('a malformed chain breaks the device until it is reset: $what', ({ table }) => {
  const broken = [
    RESET,
    ...START,
    header(TYPE.read, 0),
    poke(STATUS, Buffer.from([0xee])),
    descriptors(table),
    available(1, [0]),
    NOTIFY,
  ];
  expect(last([...broken, ...RESULT], 3, 'sanitized')).toEqual(UNTOUCHED);
  const good = request(TYPE.flush, 0, []);
  expect(last([...broken, ...good, ...RESULT], 3, 'sanitized')).toEqual(UNTOUCHED);
  expect(last([...broken, out(18, 1, 0), ...START, ...good, ...RESULT], 3, 'sanitized')).toEqual(
    completed(0, 1),
  );
});

test('more requests than the queue holds, a head outside it, a queue outside RAM', () => {
  const flush = [header(TYPE.flush, 0), descriptors(chain([])), poke(STATUS, Buffer.from([0xee]))];
  expect(last([RESET, ...START, ...flush, available(257, [0]), NOTIFY, ...RESULT], 3, 'sanitized')).toEqual(
    UNTOUCHED,
  );
  expect(last([RESET, ...START, ...flush, available(1, [256]), NOTIFY, ...RESULT], 3, 'sanitized')).toEqual(
    UNTOUCHED,
  );
  for (const page of [RAM / 4096 - 2, RAM / 4096, 0xffffffff])
    expect(last([RESET, ...START, ...flush, out(8, 4, page), NOTIFY, ...RESULT], 3, 'sanitized')).toEqual(
      UNTOUCHED,
    );
});

test('a queue whose used ring lies outside RAM', () => {
  const ring = RAM - 0x2000;
  const flush = [header(TYPE.flush, 0), descriptors(chain([]), ring), poke(STATUS, Buffer.from([0xee]))];
  const script = [
    RESET,
    ...START,
    ...flush,
    available(1, [0], 0, ring),
    out(8, 4, ring >> 12),
    NOTIFY,
    ...RESULT,
  ];
  expect(last(script, 3, 'sanitized')).toEqual(UNTOUCHED);
});

test('a read over the ring itself does no harm', () => {
  const self = request(TYPE.read, 0, [{ address: RING, length: 16 * 512, flags: WRITE }]);
  expect(() => runHarness([RESET, ...START, ...self, NOTIFY, NOTIFY], 'sanitized')).not.toThrow();
});

test('PCI holds the interrupt back, and its status shows it all the same', () => {
  const pic = ['out 0xa0 1 0x11', 'out 0xa1 1 0x28', 'out 0xa1 1 2', 'out 0xa1 1 1'];
  const COMMAND = config(3, 4);
  const observe = ['in 0xa0 1', COMMAND, 'in 0xcfe 2'];
  const script = [
    ...[RESET, ...pic, ...START, COMMAND, 'out 0xcfc 2 0x407', ...request(TYPE.flush, 0, []), ...observe],
    ...[
      'out 0xcfc 2 7',
      ...observe,
      'out 0xcfc 2 0x407',
      ...observe,
      'out 0xcfc 2 7',
      register(19, 1),
      ...observe,
    ],
  ];
  expect(answersOf(script, ['in'])).toEqual([
    '0x0',
    '0x18',
    '0x8',
    '0x18',
    '0x0',
    '0x18',
    '0x1',
    '0x0',
    '0x10',
  ]);
});

test('interrupts on request only, until ISR is read', () => {
  const pic = ['out 0xa0 1 0x11', 'out 0xa1 1 0x28', 'out 0xa1 1 2', 'out 0xa1 1 1'];
  const observe = ['in 0xa0 1', register(19, 1), 'in 0xa0 1'];
  const flush = (flags: number) => [
    ...request(TYPE.flush, 0, []).slice(0, -2),
    available(1, [0], flags),
    NOTIFY,
  ];
  expect(answersOf([RESET, ...pic, ...START, ...flush(0), ...observe], ['in'])).toEqual([
    '0x8',
    '0x1',
    '0x0',
  ]);
  expect(answersOf([RESET, ...pic, ...START, ...flush(1), ...observe], ['in'])).toEqual([
    '0x0',
    '0x0',
    '0x0',
  ]);
});

/** Addresses near anything that matters, so that random descriptors often hit it. */
const address = fc.oneof(
  fc.constantFrom(HEADER, DATA, STATUS, RING, USED, AVAILABLE, RAM - 16, RAM - 1, RAM, 0, 0xffffffff),
  fc.integer({ min: 0, max: RAM + 4096 }),
  fc.bigInt({ min: 0n, max: 0xffffffffffffffffn }),
);
const length = fc.oneof(
  fc.constantFrom(0, 1, 16, 20, 512, 1024, 4096, 0xffffffff, 0xfffffe00),
  fc.integer({ min: 0, max: 0xffffffff }),
);
const descriptor = fc.record({
  address,
  length,
  flags: fc.oneof(
    { weight: 4, arbitrary: fc.constantFrom(0, NEXT, WRITE, NEXT | WRITE) },
    { weight: 1, arbitrary: fc.nat(0xffff) },
  ),
  next: fc.oneof({ weight: 4, arbitrary: fc.nat(7) }, { weight: 1, arbitrary: fc.nat(0xffff) }),
});
const attack = fc.record({
  table: fc.array(descriptor, { minLength: 1, maxLength: 8 }),
  type: fc.oneof(fc.constantFrom(...Object.values(TYPE)), fc.nat(0xffffffff)),
  sector: fc.oneof(fc.nat(SECTORS), fc.bigInt({ min: (1n << 64n) - 64n, max: (1n << 64n) - 1n })),
  index: fc.oneof({ weight: 4, arbitrary: fc.nat(8) }, { weight: 1, arbitrary: fc.nat(0xffff) }),
  heads: fc.array(fc.oneof({ weight: 4, arbitrary: fc.nat(7) }, { weight: 1, arbitrary: fc.nat(0xffff) }), {
    minLength: 1,
    maxLength: 8,
  }),
  page: fc.oneof(
    { weight: 6, arbitrary: fc.constant(RING >> 12) },
    { weight: 1, arbitrary: fc.nat(0xffffffff) },
  ),
});

test('hostile rings never make it loop, nor touch anything outside RAM and disk', () => {
  fc.assert(
    fc.property(fc.array(attack, { minLength: 20, maxLength: 40 }), (attacks) => {
      const script = attacks.flatMap(({ table, type, sector: at, index, heads, page }) => [
        RESET,
        ...START,
        header(type, at),
        descriptors(table),
        available(index, heads),
        out(8, 4, page),
        NOTIFY,
        NOTIFY,
      ]);
      runHarness(script, 'sanitized');
    }),
    { numRuns: 40 },
  );
});

test('random accesses to the ports and the configuration space are harmless', () => {
  const access = fc.record({
    read: fc.boolean(),
    port: fc.oneof(
      fc.integer({ min: BASE - 4, max: BASE + 68 }),
      fc.constantFrom(0xcf8, 0xcfc, 0xcfd, 0xcfe, 0xcff),
    ),
    size: fc.constantFrom(1, 2, 4),
    value: fc.oneof(
      fc.nat(0xffffffff),
      fc.nat(64).map((offset) => (0x80001800 | (offset << 2)) >>> 0),
    ),
  });
  fc.assert(
    fc.property(fc.array(access, { minLength: 100, maxLength: 200 }), (accesses) => {
      const script = accesses.map(({ read, port, size, value }) =>
        read ? `in ${port} ${size}` : `out ${port} ${size} ${value}`,
      );
      runHarness([RESET, ...START, ...script], 'sanitized');
    }),
    { numRuns: 20 },
  );
});

/* --- The PCI function --- */

const config = (device: number, offset: number): string =>
  `out 0xcf8 4 ${(0x80000000 | (device << 11) | (offset & 0xfc)) >>> 0}`;
const readConfig = (device: number, offset: number, size: number): string[] => [
  config(device, offset),
  `in ${0xcfc + (offset & 3)} ${size}`,
];

test('the configuration space shows a host bridge and the disk on IRQ 11', () => {
  const script = [
    RESET,
    ...readConfig(0, 0, 4),
    ...readConfig(0, 8, 4),
    ...readConfig(3, 0, 4),
    ...readConfig(3, 8, 4),
    ...readConfig(3, 0x2c, 4),
    ...readConfig(3, 0x10, 4),
    ...readConfig(3, 0x3c, 2),
    ...readConfig(3, 4, 2),
    ...readConfig(1, 0, 4),
    ...readConfig(3, 0x0e, 1),
  ];
  expect(answersOf(script, ['in'])).toEqual([
    '0x12378086',
    '0x6000002',
    '0x10011af4',
    '0x1000000',
    '0x21af4',
    '0xc001',
    '0x10b',
    '0x7',
    '0xffffffff',
    '0x0',
  ]);
});

test('without a disk there is no such function', () => {
  expect(answersOf([`reset ${RAM} 0`, ...readConfig(3, 0, 4), register(0, 4)], ['in'])).toEqual([
    '0xffffffff',
    '0xffffffff',
  ]);
});

test('the ports can be sized, moved and disabled', () => {
  const bar = [config(3, 0x10), 'out 0xcfc 4 0xffffffff', 'in 0xcfc 4', 'out 0xcfc 4 0xd000', 'in 0xcfc 4'];
  const disable = [config(3, 4), 'out 0xcfc 2 0', 'in 0xd00c 2'];
  expect(answersOf([RESET, ...bar, 'in 0xc00c 2', 'in 0xd00c 2', ...disable], ['in'])).toEqual([
    '0xffffffc1',
    '0xd001',
    '0xffff',
    '0x100',
    '0xffff',
  ]);
});
