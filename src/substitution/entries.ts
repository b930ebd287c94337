/**
 * The wedge's entry points: where a burned site calls to, the same on every target.
 *
 * A page of control data, a page of pointers and the entry code lie at fixed
 * guest-virtual addresses at the bottom of the range that the virtual PC's
 * `reservetop=` keeps free of the guest. Each entry owns ENTRY_SIZE bytes, so
 * its address follows from its place in the list alone; the assembler refuses
 * one that grows beyond it (wedge/run/entries.S).
 */

import { type GuestVirtual, guestVirtual } from '../x86/address.ts';

/** Bottom of what belongs to wedge and hypervisor; everything above is theirs. */
export const WEDGE_BASE: GuestVirtual = guestVirtual(0xf480_0000);

/** struct cpu and the hosted target's own words: one page, read and written by the entries. */
export const CONTROL_PAGE: GuestVirtual = WEDGE_BASE;
/** One 4-byte pointer an entry, for `call *pointer` from code that is copied elsewhere. */
export const POINTER_PAGE: GuestVirtual = guestVirtual(WEDGE_BASE + 0x1000);
/** The entry code. */
export const ENTRY_BASE: GuestVirtual = guestVirtual(WEDGE_BASE + 0x2000);
export const ENTRY_SIZE = 64;
/** End of the entry code and of what belongs to it. */
export const ENTRY_END: GuestVirtual = guestVirtual(WEDGE_BASE + 0x5000);

/** Where copies of instructions that access unmappable low memory run (wedge/targets/hosted/low.c). */
export const LOW_CODE: GuestVirtual = guestVirtual(WEDGE_BASE + 0x5000);
/** Two pages through which those copies reach that memory. */
export const LOW_WINDOW: GuestVirtual = guestVirtual(WEDGE_BASE + 0x6000);
/** End of what the hosted wedge uses below 4 GiB. */
export const HOSTED_END: GuestVirtual = guestVirtual(WEDGE_BASE + 0x8000);

/** Xen: where the hypervisor writes its hypercall stubs. */
export const HYPERCALL_PAGE: GuestVirtual = ENTRY_END;
/** Where Xen's own part of a 32-bit guest's address space begins (xen/include/public/arch-x86/xen-x86_32.h). */
export const XEN_HOLE: GuestVirtual = guestVirtual(0xf580_0000);

const SEGMENTS = ['es', 'cs', 'ss', 'ds', 'fs', 'gs'] as const;
const HOT_SEGMENTS = ['es', 'ds', 'fs', 'gs'] as const;
const HOT_REGISTERS = ['eax', 'ecx', 'edx'] as const;
const CONTROL_REGISTERS = ['cr0', 'cr2', 'cr3', 'cr4'] as const;
const GENERAL_REGISTERS = ['eax', 'ecx', 'edx', 'ebx', 'ebp', 'esi', 'edi'] as const;

/** Kinds without operands, emulated by kind alone: their code may be copied, so no address finds the site. */
const BY_KIND = [
  'rdtsc',
  'rdtscp',
  'rdmsr',
  'wrmsr',
  'cpuid',
  'clac',
  'stac',
  'xgetbv',
  'xsetbv',
  'wbinvd',
  'clts',
] as const;

/** Every entry, in the order of its address. Appending is compatible; any other change is not. */
export const WEDGE_ENTRIES = [
  /** Any site: finds the original instruction by the return address. */
  'emulate',
  'cli',
  'sti',
  'pushf',
  'popf',
  'iret',
  'hlt',
  'in8', // in (%dx), %al and so on
  'in16',
  'in32',
  'out8',
  'out16',
  'out32',
  'entry_int80',
  'entry_sysenter',
  ...BY_KIND.map((kind) => `emulate_${kind}` as const),
  ...SEGMENTS.map((segment) => `push_${segment}` as const),
  ...HOT_SEGMENTS.map((segment) => `pop_${segment}` as const),
  ...HOT_SEGMENTS.flatMap((segment) =>
    HOT_REGISTERS.map((register) => `mov_${segment}_${register}` as const),
  ),
  ...SEGMENTS.map((segment) => `mov_eax_${segment}` as const),
  ...CONTROL_REGISTERS.flatMap((control) =>
    GENERAL_REGISTERS.map((register) => `mov_${register}_${control}` as const),
  ),
  ...GENERAL_REGISTERS.map((register) => `mov_cr3_${register}` as const),
  /** Any site of a module that was burned ahead of time: its patch table lies at the return address. */
  'carried',
] as const;

export type WedgeEntry = (typeof WEDGE_ENTRIES)[number];

const INDEX = new Map<string, number>(WEDGE_ENTRIES.map((name, index) => [name, index]));

/** Place of an entry in the list; it is what the patch table records. @throws RangeError if there is none. */
export function entryIndex(name: string): number {
  const index = INDEX.get(name);
  if (index === undefined) throw new RangeError(`no entry is called ${name}`);
  return index;
}

/** Where `call` goes. */
export const entryAddress = (name: string): GuestVirtual =>
  guestVirtual(ENTRY_BASE + entryIndex(name) * ENTRY_SIZE);

/** Where the pointer for `call *` lies. */
export const entryPointerAddress = (name: string): GuestVirtual =>
  guestVirtual(POINTER_PAGE + entryIndex(name) * 4);
