/**
 * What the guest's page tables map to RAM (SDM vol. 3A, 4.3 and 4.4), for
 * readers of its memory by guest-virtual address. Reads only; sets no accessed bit.
 */

import { viewOf } from '../elf/codec.ts';
import { type GuestPhysical, type GuestVirtual, guestPhysical, guestVirtual } from '../x86/address.ts';
import type { Cpu } from './cpu.ts';
import { PAGE_SIZE, type Ram } from './ram.ts';
import type { Machine } from './state.ts';

export interface Mapping {
  readonly virtual: GuestVirtual;
  readonly physical: GuestPhysical;
  /** Bytes. */
  readonly size: number;
  readonly writable: boolean;
  /** User code has no access. */
  readonly supervisor: boolean;
}

const CR0_PG = 0x8000_0000;
const CR4_PSE = 1 << 4;
const CR4_PAE = 1 << 5;

const PRESENT = 1n;
const WRITABLE = 2n;
const USER = 4n;
const LARGE = 0x80n;

/** Names of the ways a guest can page. */
export const PAGING_MODES = {
  off: 'no paging',
  legacy: '32-bit paging',
  pae: 'PAE paging',
} as const;

export type PagingMode = keyof typeof PAGING_MODES;

export const pagingMode = ({ cr0, cr4 }: Pick<Cpu, 'cr0' | 'cr4'>): PagingMode =>
  (cr0 & CR0_PG) === 0 ? 'off' : (cr4 & CR4_PAE) === 0 ? 'legacy' : 'pae';

const hasLargePages = (cpu: Cpu): boolean => pagingMode(cpu) === 'pae' || (cpu.cr4 & CR4_PSE) !== 0;

const NO_POINTERS: readonly bigint[] = [0n, 0n, 0n, 0n];

/**
 * What the processor holds beside CR3: with PAE paging the four entries above the page
 * directories, as RAM has them (SDM vol. 3A, 4.4.1). Undefined if they do not lie in RAM.
 */
export function pointersOf(ram: Ram, cpu: Pick<Cpu, 'cr0' | 'cr3' | 'cr4'>): readonly bigint[] | undefined {
  if (pagingMode(cpu) !== 'pae') return NO_POINTERS;
  const table = (cpu.cr3 & ~31) >>> 0;
  const bytes = new Uint8Array(32);
  if (table + bytes.length > ram.size) return undefined;
  ram.read(guestPhysical(table), bytes);
  return NO_POINTERS.map((_, index) => viewOf(bytes).getBigUint64(8 * index, true));
}

/** How tables are made up in one mode. */
interface Format {
  /** Bytes of an entry. */
  readonly entrySize: 4 | 8;
  /** The address in an entry, of a page or a table. */
  readonly frame: bigint;
  /** Bytes that an entry of a page directory covers. */
  readonly large: number;
  /** The address of a large page in a directory entry. */
  readonly largeFrame: (entry: bigint) => bigint;
}

const FORMATS: Record<'legacy' | 'pae', Format> = {
  legacy: {
    entrySize: 4,
    frame: 0xffff_f000n,
    large: 2 ** 22,
    // PSE-36: bits 13 to 20 are bits 32 to 39 of the address.
    largeFrame: (entry) => (entry & 0xffc0_0000n) | (((entry >> 13n) & 0xffn) << 32n),
  },
  pae: {
    entrySize: 8,
    frame: 0x000f_ffff_ffff_f000n,
    large: 2 ** 21,
    largeFrame: (entry) => entry & 0x000f_ffff_ffe0_0000n,
  },
};

/** An entry of a table; 0 if it does not lie in RAM. */
function entryAt(ram: Ram, table: bigint, index: number, { entrySize }: Format): bigint {
  const at = Number(table) + index * entrySize;
  if (at + entrySize > ram.size) return 0n;
  const bytes = new Uint8Array(8);
  ram.read(guestPhysical(at), bytes.subarray(0, entrySize));
  return viewOf(bytes).getBigUint64(0, true);
}

/** The present entries of a table and their numbers; none if it does not lie in RAM. */
function* entriesOf(
  ram: Ram,
  table: bigint,
  { entrySize }: Format,
): Generator<[index: number, entry: bigint]> {
  if (table + BigInt(PAGE_SIZE) > BigInt(ram.size)) return;
  const bytes = new Uint8Array(PAGE_SIZE);
  ram.read(guestPhysical(Number(table)), bytes);
  const view = viewOf(bytes);
  for (let index = 0; index < PAGE_SIZE / entrySize; index++) {
    const offset = index * entrySize;
    const low = view.getUint32(offset, true);
    if ((low & 1) === 0) continue;
    yield [index, entrySize === 4 ? BigInt(low) : view.getBigUint64(offset, true)];
  }
}

function* pagesOf(cpu: Cpu, ram: Ram): Generator<Mapping> {
  const mode = pagingMode(cpu);
  if (mode === 'off') {
    const start = 0;
    yield {
      virtual: guestVirtual(start),
      physical: guestPhysical(start),
      size: ram.size,
      writable: true,
      supervisor: true,
    };
    return;
  }
  const format = FORMATS[mode];
  const page = (virtual: number, physical: bigint, size: number, rights: bigint): Mapping => ({
    virtual: guestVirtual(virtual),
    physical: guestPhysical(Number(physical)),
    size,
    writable: (rights & WRITABLE) !== 0n,
    supervisor: (rights & USER) === 0n,
  });
  const hasLarge = hasLargePages(cpu);
  const directories = mode === 'legacy' ? [BigInt(cpu.cr3) | PRESENT] : cpu.pdpte;
  for (const [quarter, pointer] of directories.entries()) {
    if ((pointer & PRESENT) === 0n) continue;
    for (const [index, directoryEntry] of entriesOf(ram, pointer & format.frame, format)) {
      const base = quarter * 2 ** 30 + index * format.large;
      if (hasLarge && (directoryEntry & LARGE) !== 0n)
        yield page(base, format.largeFrame(directoryEntry), format.large, directoryEntry);
      else
        for (const [number, entry] of entriesOf(ram, directoryEntry & format.frame, format))
          yield page(base + number * PAGE_SIZE, entry & format.frame, PAGE_SIZE, entry & directoryEntry);
    }
  }
}

/** Where in RAM a guest-virtual address lies; undefined if it is not mapped there. */
function translate(cpu: Cpu, ram: Ram, address: GuestVirtual): GuestPhysical | undefined {
  const mode = pagingMode(cpu);
  const inRam = (physical: number) => (physical < ram.size ? guestPhysical(physical) : undefined);
  if (mode === 'off') return inRam(address);
  const format = FORMATS[mode];
  const pointer = mode === 'legacy' ? BigInt(cpu.cr3) | PRESENT : cpu.pdpte[Math.floor(address / 2 ** 30)]!;
  if ((pointer & PRESENT) === 0n) return undefined;
  const entries = 2 ** 12 / format.entrySize;
  const inLarge = address % format.large;
  const directoryEntry = entryAt(
    ram,
    pointer & format.frame,
    Math.floor(address / format.large) % entries,
    format,
  );
  if ((directoryEntry & PRESENT) === 0n) return undefined;
  if (hasLargePages(cpu) && (directoryEntry & LARGE) !== 0n)
    return inRam(Number(format.largeFrame(directoryEntry)) + inLarge);
  const entry = entryAt(ram, directoryEntry & format.frame, Math.floor(inLarge / PAGE_SIZE), format);
  return (entry & PRESENT) === 0n ? undefined : inRam(Number(entry & format.frame) + (address % PAGE_SIZE));
}

/** What lies at a guest-virtual address, by the current page tables; undefined unless all of it is mapped to RAM. */
export function readVirtual(
  { state: { cpu }, ram }: Pick<Machine, 'state' | 'ram'>,
  address: GuestVirtual,
  size: number,
): Uint8Array | undefined {
  if (address + size > 2 ** 32) return undefined;
  const bytes = new Uint8Array(size);
  for (let done = 0; done < size; ) {
    const at = guestVirtual(address + done);
    const physical = translate(cpu, ram, at);
    if (physical === undefined) return undefined;
    const count = Math.min(PAGE_SIZE - (at % PAGE_SIZE), size - done);
    ram.read(physical, bytes.subarray(done, done + count));
    done += count;
  }
  return bytes;
}

/** Everything the current page tables map to RAM, ascending by virtual address, in runs as long as they go. */
export function ramMappings(cpu: Cpu, ram: Ram): Mapping[] {
  const runs: Mapping[] = [];
  for (const next of pagesOf(cpu, ram)) {
    const size = Math.min(next.size, ram.size - next.physical);
    if (size <= 0) continue;
    const last = runs.at(-1);
    const goesOn =
      last &&
      last.virtual + last.size === next.virtual &&
      last.physical + last.size === next.physical &&
      last.writable === next.writable &&
      last.supervisor === next.supervisor;
    if (goesOn) runs[runs.length - 1] = { ...last, size: last.size + size };
    else runs.push({ ...next, size });
  }
  return runs;
}
