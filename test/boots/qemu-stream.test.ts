/** QEMU's migration stream: read, turned into a machine state and back, and put back under a Linux that goes on. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkDisk, makeDisk, readFromDisk } from '../../guests/linux/disk.ts';
import { buildInitramfs } from '../../guests/linux/initramfs.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { parseElf } from '../../src/elf/image.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { linkOffset } from '../../src/machine/boot-plan.ts';
import { nonZeroRuns, PAGE_SIZE, type Ram } from '../../src/machine/ram.ts';
import { type Machine, type MachineState, PROCESSORS } from '../../src/machine/state.ts';
import { DISK_LINE } from '../../src/targets/bare/disk-section.ts';
import {
  encodeStream,
  type MigrationStream,
  type RamPage,
  readStream,
  type Section,
} from '../../src/targets/bare/migration-stream.ts';
import { toMachineState, toStream } from '../../src/targets/bare/pc-state.ts';
import { field, withFields } from '../../src/targets/bare/section-fields.ts';
import { guestPhysical } from '../../src/x86/address.ts';
import { BareGuest } from './bare-qemu.ts';

const MEBIBYTE = 2 ** 20;
const BUILD_LIMIT = 1_800_000;
const LIVE_LIMIT = 120_000;
/** Where the stream is stopped, milliseconds after the guest was seen to work. */
const MOMENTS = [0, 37, 211];

const folder = mkdtempSync(join(tmpdir(), 'previrt-stream-'));
const disk = join(folder, 'disk');
let guest: BareGuest;
let templateBytes: Uint8Array;
let template: MigrationStream;
let offset: number;
/** Streams of the guest at several moments. */
const machines: Machine[] = [];
let taken: Uint8Array;

const bytesOf = (stream: MigrationStream): Buffer => Buffer.concat([...encodeStream(stream)]);
const now = (): bigint => BigInt(Date.now()) * 1_000_000n;

beforeAll(async () => {
  const { vmlinux } = await buildKernel('annotated');
  const elf = parseElf(readFileSync(vmlinux));
  offset = linkOffset(elf);
  const initrd = new Uint8Array(readFileSync(await buildInitramfs('busybox')));
  await makeDisk(disk, 16 * MEBIBYTE);
  guest = new BareGuest({ elf, memory: 32 * MEBIBYTE, append: 'quiet', initrd, disk });
  templateBytes = await guest.template();
  template = readStream(templateBytes);
}, BUILD_LIMIT);

afterAll(async () => {
  await guest?.close();
  rmSync(folder, { recursive: true });
});

/** What a state is once it has been a stream. */
function throughStream({ state, ram }: Machine): MachineState {
  const stream = readStream(bytesOf(toStream(template, { state, ram, sites: [] }, state.wall_time)));
  return toMachineState(stream, {
    wallTime: state.wall_time,
    owed: 0n,
    linkOffset: offset,
    features: state.features,
  }).state;
}

const features = PROCESSORS.pentium3;

describe('a Linux on bare QEMU', () => {
  it('goes on from a stream that was made of its machine state', { timeout: LIVE_LIMIT }, async () => {
    await guest.boot();
    await guest.expect(/guest# /);
    guest.send('mount /dev/vda /tmp; dd if=/dev/zero of=/tmp/big bs=64k count=64 2>/dev/null; cd /tmp\n');
    guest.send('(while :; do dd if=big of=copy bs=16k conv=fsync 2>/dev/null; cmp big copy; done) &\n');
    guest.send('(i=0; while :; do i=$((i+1)); echo n=$i; usleep 50000; done) &\n');
    for (const moment of MOMENTS) {
      const count = Number((await guest.expect(/n=(\d+)\r/))[1]);
      await new Promise((resolve) => setTimeout(resolve, moment));
      const { stream, wallTime } = await guest.take();
      taken = stream;
      const read = readStream(stream);
      expect(bytesOf(read).equals(stream)).toBe(true);
      const machine = toMachineState(read, { wallTime, owed: 0n, linkOffset: offset, features });
      machines.push(machine);
      await guest.putBack(bytesOf(toStream(template, machine, now())));
      // It prints each number, so none is missing and none comes twice.
      for (let next = count + 1; next < count + 12; next++) await guest.expect(new RegExp(`n=${next}\\b`));
      // What else runs there can make it later, but not each time.
      for (let seconds = 2; seconds >= 1.5; ) {
        guest.send('time sleep 1; echo slept=$((2*3))\n');
        seconds = Number((await guest.expect(/real\s+0m ([\d.]+)s/))[1]);
        expect(seconds).toBeGreaterThan(0.5);
        await guest.expect(/slept=6/);
      }
    }
    const lines = guest.output.slice(0, guest.output.lastIndexOf('\n'));
    const numbers = lines.match(/n=\d+/g)!.map((text) => Number(text.slice(2)));
    expect(numbers).toEqual(numbers.map((_, index) => index + 1));
    // What they were running ends a little later.
    guest.send(
      'kill %1 %2; wait; echo whole > done; cd /; until umount /tmp 2>/dev/null; do sleep 1; done; echo end=$((6*7))\n',
    );
    await guest.expect(/end=42/);
    await checkDisk(disk);
    expect(await readFromDisk(disk, 'done')).toBe('whole');
    expect(guest.output).not.toMatch(/differ|panic|Oops|\[qemu:/);
  });
});

describe('a machine state', () => {
  it('comes out of a stream as it went in', () => {
    for (const machine of machines) {
      const { devices, ...rest } = machine.state;
      const { devices: again, ...restAgain } = throughStream(machine);
      expect(restAgain).toEqual(rest);
      expect(again).toEqual(devices);
      // As any other processor has it: a busy 32-bit TSS.
      expect(rest.cpu.tr.attributes).toBe(0x8b);
    }
  });

  /** Changes of a state that Linux rarely is in. */
  const ODD: Readonly<Record<string, (state: MachineState) => MachineState>> = {
    'in an interrupt shadow': (state) => ({ ...state, cpu: { ...state.cpu, shadow: 1 } }),
    halted: (state) => ({ ...state, cpu: { ...state.cpu, halted: 1 } }),
    'with bytes in the receive FIFO': ({ devices, ...state }) => ({
      ...state,
      devices: {
        ...devices,
        uart16550: {
          ...devices.uart16550,
          head: 14,
          length: 3,
          lsr: 0x61,
          timeout_pending: 1,
          fifo: Uint8Array.from({ length: 16 }, (_, index) => index + 65),
        },
      },
    }),
    'with an interrupt of the disk': ({ devices, ...state }) => ({
      ...state,
      devices: { ...devices, virtio_blk: { ...devices.virtio_blk, isr: 1 } },
    }),
    'between two bytes of a count': ({ devices, ...state }) => ({
      ...state,
      devices: {
        ...devices,
        i8254: {
          ...devices.i8254,
          channels: devices.i8254.channels.map((channel) => ({
            ...channel,
            access: 3,
            write_high: 1,
            write_low: 0x34,
            latched: 1,
            read_high: 1,
            latch: 0x1234,
          })),
        },
      },
    }),
    'with the legacy disk interface': ({ devices, ...state }) => ({
      ...state,
      devices: {
        ...devices,
        virtio_blk: {
          ...devices.virtio_blk,
          queue_desc: 0x40_0000n,
          queue_driver: 0x40_1000n,
          queue_device: 0x40_2000n,
          queue_pfn: 0x400,
          queue_enable: 0,
          driver_feature: [0x44, 0],
          device_feature_select: 0,
          driver_feature_select: 0,
          status: 7,
        },
      },
    }),
    'with the stack of the FPU in the middle': (state) => {
      const fpu = state.fpu.slice();
      fpu.set(
        Uint8Array.from({ length: 128 }, (_, index) => (index % 16 < 10 ? index + 1 : 0)),
        32,
      );
      fpu.set([0x7f, 0x03, 0x00, 0x28, 0xe0], 0);
      return { ...state, fpu };
    },
  };
  for (const [name, change] of Object.entries(ODD))
    it(`comes out as it went in ${name}`, () => {
      for (const { state, ram } of machines) {
        const odd = change(state);
        expect(throughStream({ state: odd, ram, sites: [] })).toEqual(odd);
      }
    });

  it.each([
    [0, 1],
    [0x400, 0],
  ])("has the disk's interrupt on its line unless PCI holds it back: command bits %i", (more, level) => {
    const { state, ram } = machines[0]!;
    const { pci, virtio_blk } = state.devices;
    const devices = {
      ...state.devices,
      pci: { ...pci, command: pci.command | more },
      virtio_blk: { ...virtio_blk, isr: 1 },
    };
    const stream = toStream(template, { state: { ...state, devices }, ram, sites: [] }, state.wall_time);
    const bus = stream.sections.find(({ name }) => name.endsWith('PCIBUS'))!;
    expect(field(bus, `irq_count[${DISK_LINE}]`)).toBe(level);
  });

  it('counts the timer edges that QEMU has passed on, wherever in its period it stands', () => {
    const { state, ram } = machines[0]!;
    fc.assert(
      fc.property(
        fc.constantFrom(2, 3),
        fc.integer({ min: 3, max: 65_536 }),
        fc.integer({ min: 0, max: 10_000 }),
        (mode, period, edges) => {
          const [timer, ...others] = state.devices.i8254.channels;
          const start = state.time - (BigInt(edges * period + 1) * 1_000_000_000n) / 1_193_182n;
          fc.pre(start >= 0n);
          const channel = { ...timer!, mode, period, count: period & 0xffff, edges: BigInt(edges), start };
          const i8254 = { ...state.devices.i8254, channels: [channel, ...others] };
          const before = { ...state, devices: { ...state.devices, i8254 } };
          expect(
            throughStream({ state: before, ram: { ...ram, extents: [] }, sites: [] }).devices.i8254,
          ).toEqual(i8254);
        },
      ),
      { numRuns: 20 },
    );
  });
});

it('a guest has its own memory, whatever a new machine begins with, and no page more than that takes', () => {
  const { state, ram } = machines[0]!;
  const pages = (of: Ram): Map<number, string> => {
    const found = new Map<number, string>();
    for (const { start, bytes } of nonZeroRuns(of))
      for (let at = 0; at < bytes.length; at += PAGE_SIZE)
        found.set(start + at, Buffer.from(bytes.subarray(at, at + PAGE_SIZE)).toString('base64'));
    return found;
  };
  const own = pages(ram);
  const [written] = own.keys();
  let untouched = 0;
  while (own.has(untouched)) untouched += PAGE_SIZE;
  const bytes = new Uint8Array(PAGE_SIZE).fill(0xa5);
  const first = [written!, untouched].map((at) => ({ block: 'pc.ram', offset: at, bytes, sameBlock: false }));
  const [start, ...others] = template.portions;
  const begun = { ...template, portions: [start!, ...others, { ...others.at(-1)!, pages: first }] };
  const streamOf = (from: MigrationStream): Buffer =>
    bytesOf(toStream(from, { state, ram, sites: [] }, state.wall_time));
  const as = { wallTime: state.wall_time, owed: 0n, linkOffset: offset, features };
  for (const from of [template, begun])
    expect(pages(toMachineState(readStream(streamOf(from)), as).ram)).toEqual(own);
  const inRam = ({ portions }: MigrationStream): RamPage[] =>
    portions.flatMap(({ pages: all }) => [...all]).filter(({ block }) => block === 'pc.ram');
  const begins = inRam(template).filter((page) => page.bytes).length;
  expect(inRam(readStream(streamOf(template)))).toHaveLength(begins + own.size);
});

it('a guest with an odd number of pages has as many again, though QEMU has one more', () => {
  const { state, ram } = machines[0]!;
  const size = ram.size - PAGE_SIZE;
  const extents = [{ start: guestPhysical(0), size }];
  const odd = { state: { ...state, ram_size: BigInt(size) }, ram: { ...ram, size, extents }, sites: [] };
  const stream = readStream(bytesOf(toStream(template, odd, state.wall_time)));
  const all = { wallTime: state.wall_time, owed: 0n, linkOffset: offset, features };
  const back = toMachineState(stream, { ...all, ramSize: size });
  expect([back.ram.size, back.state.ram_size]).toEqual([size, BigInt(size)]);
  expect(toMachineState(readStream(taken), { ...all, ramSize: size }).ram.size).toBe(size);
  expect(() => toMachineState(stream, { ...all, ramSize: size - PAGE_SIZE })).toThrow(/bytes of RAM/);
});

describe('a guest that uses what the virtual PC does not have', () => {
  const CASES: readonly (readonly [section: string, values: Record<string, number>, message: RegExp])[] = [
    ['dma', { mask: 0xfb }, /uses DMA channel 2,/],
    ['ioapic', { 'ioredtbl[4]': 0x31 }, /uses an I\/O APIC,/],
    ['i8254', { 'channels[0].irq_disabled': 1 }, /come from an HPET/],
    ['cpu', { 'env.a20_mask': ~(1 << 20) }, /A20 held low/],
    ['cpu', { 'env.eflags': 1 << 17 }, /virtual-8086 mode/],
  ];
  const changed = (name: string, change: (section: Section) => Section): MigrationStream => {
    const stream = readStream(taken);
    const sections = stream.sections.map((section) =>
      section.name.endsWith(name) && section.instance === 0 ? change(section) : section,
    );
    return { ...stream, sections };
  };
  const take = (stream: MigrationStream) => () =>
    toMachineState(stream, { wallTime: 0n, owed: 0n, linkOffset: 0, features });

  it('is refused by its name', () => {
    for (const [name, values, message] of CASES)
      expect(take(changed(name, (section) => withFields(section, values)))).toThrow(message);
    expect(take(changed('vmmouse', (section) => ({ ...section, name: 'apic' })))).toThrow(
      /uses a device apic,/,
    );
    const features = Buffer.from([0, 0, 0, 1, 0x30, 0, 2, 0x44]);
    const greedy = changed('virtio-blk', (section) => {
      const bytes = Buffer.from(section.bytes);
      features.copy(bytes, bytes.indexOf('virtio/64bit_features') + 'virtio/64bit_features'.length + 4);
      return { ...section, bytes };
    });
    expect(take(greedy)).toThrow(/its disk's driver uses INDIRECT_DESC, EVENT_IDX/);
  });
});

describe('a template', () => {
  it('of another machine is refused', () => {
    const [machine] = machines;
    const other = { ...template, machine: 'pc-i440fx-6.0' };
    expect(() => toStream(other, machine!, now())).toThrow(/pc-i440fx-6.0, not pc-i440fx-7.2/);
    const small = { ...template, blocks: [{ name: 'pc.ram', size: 16 * MEBIBYTE }] };
    expect(() => toStream(small, machine!, now())).toThrow(/bytes of RAM/);
    expect(() =>
      toStream(template, { ...machine!, state: { ...machine!.state, domains: 1 } }, now()),
    ).toThrow(/burned/);
  });
});

describe('a stream', () => {
  it('is read and written without a change', () => {
    expect(bytesOf(template).equals(templateBytes)).toBe(true);
  });

  it('before the first instruction, in real mode, is no guest to take over', () => {
    expect(() => toMachineState(template, { wallTime: 0n, owed: 0n, linkOffset: 0, features })).toThrow(
      InputError,
    );
  });

  /** Reads it; nothing but an InputError may come of it. */
  function attempt(bytes: Uint8Array): void {
    try {
      toMachineState(readStream(bytes), { wallTime: now(), owed: 0n, linkOffset: 0, features });
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
    }
  }

  const VALUES = [0, 1, 0x7f, 0x80, 0xff];
  /** Header and RAM's first portion, or the devices and their description at the end. */
  const place = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.integer({ min: -90_000, max: -1 }));

  it('that was damaged is refused, or read, and nothing else', () => {
    const bytes = Uint8Array.from(taken);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(place, fc.constantFrom(...VALUES)), { minLength: 1, maxLength: 6 }),
        (damage) => {
          const undo = damage.map(([at, value]) => {
            const index = at < 0 ? bytes.length + at : at;
            const before = bytes[index]!;
            bytes[index] = value;
            return [index, before] as const;
          });
          try {
            attempt(bytes);
          } finally {
            for (const [index, before] of undo.reverse()) bytes[index] = before;
          }
        },
      ),
      { numRuns: 300 },
    );
  });

  it('whose description says nonsense is refused by the name of the section', () => {
    const described = (from: string | RegExp, to: string): Uint8Array => {
      const descriptionText = template.descriptionText.replace(from, to);
      expect(descriptionText).not.toBe(template.descriptionText);
      return bytesOf({ ...template, descriptionText });
    };
    const zeros = JSON.stringify({ name: 'x', type: 'uint8', size: 0, array_len: 2 ** 30 });
    const nonsense: readonly (readonly [Uint8Array, RegExp])[] = [
      [described(/"array_len": ?8/, '"array_len": 2000000000'), /section cpu is truncated/],
      [described(/"size": ?8\b/, '"size": 9'), /section timer: it does not end/],
      [described(/"size": ?8\b/, '"size": -8'), /malformed field in timer/],
      [described(/"name": ?"timer"/, '"name": "hpet"'), /section timer: the description does not have it/],
      [described(/"fields": ?\[/, `"fields": [${`${zeros},`.repeat(100_000)}`), /description has \d+ bytes/],
    ];
    for (const [bytes, message] of nonsense) expect(() => readStream(bytes)).toThrow(message);
  });

  it('that is cut off is refused by the name of what is missing', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: templateBytes.length - 1 }), (length) => {
        expect(() => readStream(templateBytes.subarray(0, length))).toThrow(InputError);
      }),
      { numRuns: 100 },
    );
    expect(() => readStream(templateBytes.subarray(0, 3))).toThrow(/header is truncated/);
  });

  it('of something else, or with sizes beyond all reason, is refused by name', () => {
    const changed = (at: number, ...values: number[]): Uint8Array => {
      const bytes = Uint8Array.from(templateBytes);
      bytes.set(values, at);
      return bytes;
    };
    expect(() => readStream(changed(0, 0))).toThrow(/not QEMU|this is not/);
    expect(() => readStream(changed(7, 4))).toThrow(/version 4, not 3/);
    expect(() => readStream(changed(9, 0xff, 0xff, 0xff, 0xff))).toThrow(/header is truncated/);
    const ram = Buffer.from(templateBytes.buffer, templateBytes.byteOffset).indexOf('\u0003ram') + 12;
    expect(() => readStream(changed(ram, 0, 0, 0xff))).toThrow(
      /section ram: .* more than the virtual PC has/,
    );
    expect(() => readStream(changed(ram, 0, 0xff))).toThrow(/section ram: an address beyond the machine/);
  });
});
