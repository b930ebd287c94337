/**
 * Machine state: the guest between two of its instructions, as its hardware
 * would hold it, and so the same on every target. RAM comes beside it.
 *
 * `MACHINE_STATE` is how a wedge tells it and takes it; the patch table's
 * entries follow it there. Everything that a target derives from it (mappings,
 * real segment registers, pending work) is not part of it.
 */

import { defineRecord, type RecordOf } from '../elf/record.ts';
import type { OwnedPatchEntry } from '../sites/patch-table.ts';
import { CPU } from './cpu.ts';
import { MACHINE_DEVICES } from './devices.ts';
import type { PageSet } from './page-set.ts';
import type { Ram } from './ram.ts';

/** "PVMS" in memory order. */
export const STATE_MAGIC = 0x534d5650;
export const STATE_VERSION = 1;

/** Bytes of the largest XSAVE area that is taken: x87, SSE, AVX, AVX-512 and PKRU end before (SDM vol. 1, 13.4.3). */
export const FPU_SIZE = 4096;

/** How `fpu` is laid out: as FXSAVE does, 512 bytes, or as XSAVE does in its standard form. */
export const FPU_FORMAT = { FXSAVE: 1, XSAVE: 2 } as const;

/** The words of CPUID that say what user code may use (SDM vol. 2, CPUID), in the order of `features`. */
export const FEATURE_WORDS = [
  { name: '1.ecx', leaf: 1, subleaf: 0, register: 'ecx' },
  { name: '1.edx', leaf: 1, subleaf: 0, register: 'edx' },
  { name: '7.ebx', leaf: 7, subleaf: 0, register: 'ebx' },
  { name: '7.ecx', leaf: 7, subleaf: 0, register: 'ecx' },
  { name: '7.edx', leaf: 7, subleaf: 0, register: 'edx' },
  { name: '80000001.ecx', leaf: 0x8000_0001, subleaf: 0, register: 'ecx' },
  { name: '80000001.edx', leaf: 0x8000_0001, subleaf: 0, register: 'edx' },
  { name: 'd.1.eax', leaf: 0xd, subleaf: 1, register: 'eax' },
] as const;

/** Processors by what a guest may know of them: a word of CPUID each, in that order. */
export const PROCESSORS = {
  /** Whatever the host has. */
  host: FEATURE_WORDS.map(() => 0xffff_ffff),
  /** That of the bare PC: no more than every host has. FPU to SSE, without SSE2, and without what no wedge shows (HIDDEN of QEMU's command line). */
  pentium3: FEATURE_WORDS.map(({ name }) => (name === '1.edx' ? 0x0380_a17d : 0)),
} as const;

export type ProcessorName = keyof typeof PROCESSORS;

export const MACHINE_STATE = defineRecord(
  'machine_state',
  'The machine between two instructions, but for RAM.',
  [
    ['magic', 'u32', 'STATE_MAGIC'],
    ['version', 'u32', 'STATE_VERSION'],
    ['ram_size', 'u64', 'bytes'],
    ['time', 'u64', 'guest time: nanoseconds since power-on'],
    [
      'wall_time',
      'u64',
      'nanoseconds since 1970-01-01 00:00:00 UTC, when it stopped, or earlier by the time that it is owed',
    ],
    ['tsc', 'u64', 'what rdtsc would have read; cpu.tsc_offset is 0'],
    ['pc_version', 'u32', 'of the virtual PC'],
    ['link_offset', 'u32', 'guest-virtual minus guest-physical address of the kernel, as linked'],
    [
      'domains',
      'u32',
      'bit 1 << DOMAIN_* for each whose sites are burned in RAM; 0: none is, all hold their own bytes',
    ],
    ['site_count', 'u32', 'patch table entries of the kernel, which follow, by address'],
    ['module_site_count', 'u32', "and of its modules', behind them, by address"],
    ['fpu_format', 'u32', 'FPU_FORMAT'],
    ['fpu_size', 'u32', 'bytes of it that count'],
    ['reserved', 'u32', ''],
    ['features', ['u32', FEATURE_WORDS.length], 'FEATURE_WORDS: what user code could see'],
    ['cpu', CPU, 'pending, return_work and tsc_offset are 0'],
    ['devices', MACHINE_DEVICES, ''],
    ['fpu', ['u8', FPU_SIZE], 'x87, SSE and what follows'],
  ],
);

/** The state itself: without what says how it is laid out, and how many sites follow. */
export type MachineState = Omit<
  RecordOf<typeof MACHINE_STATE>,
  'magic' | 'version' | 'site_count' | 'module_site_count' | 'reserved'
>;

/** Whether the guest's driver has its disk. */
export const usesDisk = ({ devices }: Pick<MachineState, 'devices'>): boolean =>
  devices.virtio_blk.status !== 0;

/** A machine that stands still, between two of its instructions. */
export interface Machine {
  readonly state: MachineState;
  /** The kernel's sites (owner 0) by address, then those of its modules by address. */
  readonly sites: readonly OwnedPatchEntry[];
  readonly ram: Ram;
  /** Pages of RAM that were written to since its log was last asked for, if one was kept. */
  readonly written?: PageSet | undefined;
}
