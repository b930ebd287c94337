/** Machine states for properties. */

import fc from 'fast-check';
import { decodeRecord } from '../../src/elf/record.ts';
import { memoryRam, PAGE_SIZE } from '../../src/machine/ram.ts';
import { FPU_FORMAT, MACHINE_STATE, type Machine, type MachineState } from '../../src/machine/state.ts';
import { VIRTUAL_PC_VERSION } from '../../src/machine/virtual-pc.ts';
import type { OwnedPatchEntry } from '../../src/sites/patch-table.ts';
import { type GuestVirtual, guestVirtual } from '../../src/x86/address.ts';

/** Bytes from a seed, cheaply: a linear congruential generator. */
function bytesOf(seed: number, size: number): Uint8Array {
  let word = seed >>> 0;
  return Uint8Array.from({ length: size }, () => {
    word = (Math.imul(word, 1_664_525) + 1_013_904_223) >>> 0;
    return word >>> 24;
  });
}

function stateOf(seed: number, ramSize: number): MachineState {
  const bytes = bytesOf(seed, MACHINE_STATE.size);
  const { magic, version, site_count, module_site_count, reserved, ...state } = decodeRecord(
    MACHINE_STATE,
    bytes,
    0,
    'state',
  );
  const { devices } = state;
  return {
    ...state,
    ram_size: BigInt(ramSize),
    pc_version: VIRTUAL_PC_VERSION,
    fpu_format: FPU_FORMAT.XSAVE,
    fpu_size: 1024,
    cpu: { ...state.cpu, cpl: seed & 3, interrupt_flag: seed & 0x200 },
    devices: {
      ...devices,
      i8259: devices.i8259.map((pic) => ({ ...pic, highest: pic.highest & 7, awaited: 0 })),
      i8254: {
        ...devices.i8254,
        channels: devices.i8254.channels.map((channel) => ({
          ...channel,
          mode: channel.mode % 6,
          access: channel.access & 3,
          latched: channel.latched % 3,
          period: (channel.period & 0xffff) + 1,
        })),
      },
      mc146818: { ...devices.mc146818, index: devices.mc146818.index & 127 },
      uart16550: { ...devices.uart16550, head: seed & 15, length: seed % 17 },
      virtio_blk: { ...devices.virtio_blk, queue_size: 1 << (seed & 15) },
    },
  };
}

const site = (address: GuestVirtual, length: number, owner: number): OwnedPatchEntry => ({
  address,
  length,
  widening: length - 2,
  domain: 1,
  kind: 1 + (length % 6),
  flags: length & 7,
  entry: address & 0xffff,
  original: bytesOf(address, length),
  owner,
});

const sitesOf = (gaps: readonly number[], owners: (index: number) => number): OwnedPatchEntry[] => {
  let end = 0xc010_0000;
  return gaps.map((gap, index) => {
    const address = guestVirtual(end + gap);
    const length = 5 + (gap % 11);
    end = address + length;
    return site(address, length, owners(index));
  });
};

/** Small ones: up to 64 pages of RAM, each of them zero, the same byte all over, or noise. */
export const machines = (): fc.Arbitrary<Machine> =>
  fc
    .record({
      seed: fc.nat(),
      pages: fc.array(fc.constantFrom('zero', 'same', 'noise'), { minLength: 1, maxLength: 64 }),
      kernel: fc.array(fc.nat(100), { maxLength: 20 }),
      modules: fc.array(fc.nat(100), { maxLength: 20 }),
    })
    .map(({ seed, pages, kernel, modules }) => {
      const ram = new Uint8Array(pages.length * PAGE_SIZE);
      pages.forEach((kind, index) => {
        const page = ram.subarray(index * PAGE_SIZE, (index + 1) * PAGE_SIZE);
        if (kind === 'same') page.fill(index + 1);
        if (kind === 'noise') page.set(bytesOf(seed + index, PAGE_SIZE));
      });
      return {
        state: stateOf(seed, ram.length),
        sites: [...sitesOf(kernel, () => 0), ...sitesOf(modules, (index) => 0xf800_0000 + (index >> 2))],
        ram: memoryRam(ram),
      };
    });
