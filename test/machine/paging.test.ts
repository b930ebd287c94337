/** The guest's own page tables, walked as the processor would. */

import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { viewOf } from '../../src/elf/codec.ts';
import { ELF32_EHDR, ELF32_PHDR } from '../../src/elf/structs.ts';
import type { Cpu } from '../../src/machine/cpu.ts';
import { ramMappings, readVirtual } from '../../src/machine/paging.ts';
import { memoryRam, PAGE_SIZE } from '../../src/machine/ram.ts';
import { guestVirtual } from '../../src/x86/address.ts';
import { CR0_PG, CR4, emptyState, KERNEL_BASE, machineOf, PAGINGS, StateFolder } from './state-fixture.ts';

const MIB = 2 ** 20;
const folder = new StateFolder();
afterAll(() => folder.remove());

/** What is mapped, as `virtual physical size rights`. */
const mapped = (ram: Uint8Array, cpu: Partial<Cpu>): string[] =>
  ramMappings(emptyState(ram.length, cpu).cpu, memoryRam(ram)).map(
    ({ virtual, physical, size, writable, supervisor }) =>
      `${virtual.toString(16)} ${physical.toString(16)} ${size.toString(16)} ${supervisor ? 'kernel' : 'user'}${writable ? ' w' : ''}`,
  );

const [PRESENT, WRITABLE, USER, LARGE] = [1, 2, 4, 0x80];

/** 32-bit tables: a directory at 1000, one table at 2000 for the lowest 4 MiB. */
function tables(
  entries: readonly (readonly [page: number, entry: number])[],
  directory = PRESENT | WRITABLE | USER,
) {
  const ram = new Uint8Array(MIB);
  const view = viewOf(ram);
  view.setUint32(0x1000, 0x2000 | directory, true);
  for (const [page, entry] of entries) view.setUint32(0x2000 + page * 4, entry, true);
  return ram;
}
const LEGACY = { cr0: CR0_PG, cr3: 0x1000 };

it.each([
  ['pages of 4 KiB', ['c0000000 0 400000 kernel w']],
  ['pages of 4 MiB', ['c0000000 0 1000000 kernel w']],
  ['PAE', ['c0000000 0 1000000 kernel w']],
])('%s: consecutive pages are one run', (paging, runs) => {
  const ram = new Uint8Array(16 * MIB);
  expect(mapped(ram, PAGINGS[paging]!(ram))).toEqual(runs);
});

it('without paging, RAM is where it is', () => {
  expect(mapped(new Uint8Array(MIB), {})).toEqual(['0 0 100000 kernel w']);
});

describe('32-bit paging', () => {
  it('joins what goes on in both spaces, with the same rights', () => {
    const rw = PRESENT | WRITABLE;
    const ram = tables([
      [1, 0x8000 | rw],
      [2, 0x9000 | rw],
      [3, 0x9000 | rw],
      [4, 0xa000 | PRESENT],
      [5, 0xb000 | PRESENT | USER],
      [7, 0xc000 | PRESENT | USER],
      [8, 0xd000 | WRITABLE],
    ]);
    expect(mapped(ram, LEGACY)).toEqual([
      '1000 8000 2000 kernel w',
      '3000 9000 1000 kernel w',
      '4000 a000 1000 kernel',
      '5000 b000 1000 user',
      '7000 c000 1000 user',
    ]);
  });

  it('a right needs both levels', () => {
    const ram = tables([[0, 0x8000 | PRESENT | WRITABLE | USER]], PRESENT);
    expect(mapped(ram, LEGACY)).toEqual(['0 8000 1000 kernel']);
  });

  it('leaves out what is no RAM: pages, tables, directories', () => {
    expect(mapped(tables([[0, 0xfe00_0000 | PRESENT]]), LEGACY)).toEqual([]);
    const ram = tables([]);
    viewOf(ram).setUint32(0x1000, 0xfff0_0000 | PRESENT, true);
    expect(mapped(ram, LEGACY)).toEqual([]);
    expect(mapped(ram, { cr0: CR0_PG, cr3: 0xffff_f000 })).toEqual([]);
  });

  it('a large page may reach beyond RAM; without PSE the bit means nothing', () => {
    const ram = tables([]);
    viewOf(ram).setUint32(0x1000, PRESENT | LARGE, true);
    expect(mapped(ram, { ...LEGACY, cr4: CR4.PSE })).toEqual(['0 0 100000 kernel']);
    expect(mapped(ram, LEGACY)).toEqual([]);
  });

  it('a directory that is its own table ends', () => {
    const ram = tables([]);
    const view = viewOf(ram);
    for (let entry = 0; entry < 1024; entry++) view.setUint32(0x1000 + entry * 4, 0x1000 | PRESENT, true);
    expect(mapped(ram, LEGACY).length).toBe(2 ** 20);
  });
});

it('PAE: entries above all RAM, and pointers that are not present', () => {
  const ram = new Uint8Array(MIB);
  const view = viewOf(ram);
  view.setBigUint64(0x2000, (1n << 40n) | 1n, true);
  view.setBigUint64(0x2008, (1n << 40n) | 0x81n, true);
  view.setBigUint64(0x2010, (1n << 63n) | 0x81n, true);
  const cpu = { cr0: CR0_PG, cr4: CR4.PAE, pdpte: [0n, 0x2001n, 0x2000n, 0n] };
  expect(mapped(ram, cpu)).toEqual(['40400000 0 100000 kernel']);
});

it('of more mappings than a file takes, those of the kernel stay', () => {
  const ram = new Uint8Array(4 * MIB);
  const view = viewOf(ram);
  for (let table = 0; table < 32; table++) {
    view.setUint32(0x1000 + table * 4, (0x10_0000 + table * PAGE_SIZE) | PRESENT | USER, true);
    for (let page = 0; page < 1024; page++)
      view.setUint32(
        0x10_0000 + table * PAGE_SIZE + page * 4,
        (((page * 7) % 1024) * PAGE_SIZE) | PRESENT | USER,
        true,
      );
  }
  view.setUint32(0x1000 + (KERNEL_BASE >>> 22) * 4, 0x20_0000 | PRESENT, true);
  view.setUint32(0x20_0000, 0x3000 | PRESENT, true);
  const bytes = folder.write('state', machineOf(ram, LEGACY));
  const count = viewOf(bytes).getUint16(44, true);
  expect(count).toBe(1 + 16_384);
  const last = ELF32_EHDR.size + 16_384 * ELF32_PHDR.size;
  expect(viewOf(bytes).getUint32(last + 8, true)).toBe(KERNEL_BASE);
  folder.read('state', ({ state }) => expect(state.cpu.cr3).toBe(0x1000));
});

describe('reading by guest-virtual address', () => {
  const entry = fc.tuple(
    fc.nat(1023),
    fc.nat(0x3f),
    fc.constantFrom(0, PRESENT, PRESENT | WRITABLE | USER, PRESENT | LARGE),
  );
  it.each(['32-bit', 'PAE'])('%s paging: finds what is mapped, and nothing else', (paging) => {
    const wide = paging === 'PAE';
    const cpu = wide
      ? { cr0: CR0_PG, cr4: CR4.PAE, pdpte: [0x1001n, 0n, 0x1001n, 0x2001n] }
      : { cr0: CR0_PG, cr4: CR4.PSE, cr3: 0x1000 };
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 40 }), fc.array(fc.nat(2 ** 32 - 1)), (entries, addresses) => {
        const ram = Uint8Array.from({ length: 0x3_0000 }, (_, at) => (at * 7) ^ (at >> 12));
        ram.fill(0, 0x1000, 0x4000);
        const view = viewOf(ram);
        for (const [index, frame, flags] of entries)
          for (const table of [0x1000, 0x2000, 0x3000])
            view.setUint32(table + (wide ? 8 * (index >> 1) : 4 * index), (frame << 12) | flags, true);
        const machine = machineOf(ram, cpu);
        const mappings = ramMappings(machine.state.cpu, machine.ram);
        const edges = mappings
          .slice(0, 30)
          .flatMap(({ virtual, size }) => [virtual, virtual + size - 1, virtual + size]);
        for (const address of [...edges, ...addresses]) {
          const mapping = mappings.find(
            ({ virtual, size }) => address >= virtual && address < virtual + size,
          );
          const byte = mapping && ram[mapping.physical + address - mapping.virtual];
          expect(readVirtual(machine, guestVirtual(address), 1)?.[0]).toBe(byte);
        }
      }),
    );
  });

  it('goes on from page to page, wherever they lie, and not into a hole', () => {
    const ram = tables([
      [1, 0x9000 | PRESENT],
      [2, 0x8000 | PRESENT],
    ]);
    ram.fill(9, 0x9000, 0xa000).fill(8, 0x8000, 0x9000);
    const read = (address: number, size: number) =>
      readVirtual(machineOf(ram, LEGACY), guestVirtual(address), size);
    expect(read(0x1ffe, 4)).toEqual(Uint8Array.from([9, 9, 8, 8]));
    expect(read(0x1000, 0x2000)).toHaveLength(0x2000);
    expect(read(0x1000, 0x2001)).toBeUndefined();
    expect(read(0xfff, 1)).toBeUndefined();
    expect(read(0xffff_ffff, 2)).toBeUndefined();
    expect(readVirtual(machineOf(ram), guestVirtual(0x8fff), 2)).toEqual(Uint8Array.from([8, 9]));
  });
});
