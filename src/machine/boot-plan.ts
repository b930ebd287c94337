/**
 * A prepared machine: what a boot loader leaves in RAM and in the registers
 * when it jumps to a kernel's 32-bit entry point. Every target starts from one.
 */

import { type ElfImage, formatAddress, slice } from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';
import { PT } from '../elf/structs.ts';
import { type GuestPhysical, guestPhysical } from '../x86/address.ts';

export interface BootChunk {
  readonly address: GuestPhysical;
  readonly bytes: Uint8Array;
}

export interface BootPlan {
  /** The first instruction; paging is off, segments are flat, interrupts are off. */
  readonly entry: GuestPhysical;
  readonly eax: number;
  readonly ebx: number;
  readonly esi: number;
  /** A stack: no boot protocol promises one, but a burned site calls the wedge before the kernel has set up its own. */
  readonly esp: GuestPhysical;
  /** Do not overlap. RAM outside them is zero. */
  readonly chunks: readonly BootChunk[];
}

export interface BootOptions {
  /** Bytes of RAM. */
  readonly memory: number;
  /** The kernel's whole command line. */
  readonly commandLine: string;
  readonly initrd?: Uint8Array | undefined;
}

const PAGE = 4096;

/** Where the loader's own structures go: conventional memory, above what a host may refuse to map. */
export const BOOT_DATA: GuestPhysical = guestPhysical(0x9_0000);
/** Initial ESP: just below. */
export const BOOT_STACK = BOOT_DATA;
const BOOT_DATA_END = 0x9_f000;

/** Where the stack begins, a page, and behind it those structures. */
const LOADER = BOOT_STACK - PAGE;

/** One range of the memory map that firmware reports (ACPI 6.4, 15.1). */
export interface MemoryRange {
  readonly address: GuestPhysical;
  readonly size: number;
  readonly type: 'usable' | 'reserved';
}

/** The virtual PC's memory map for `memory` bytes of RAM. */
export const memoryMap = (memory: number): readonly MemoryRange[] => [
  { address: guestPhysical(0), size: 0x9_fc00, type: 'usable' },
  { address: guestPhysical(0x9_fc00), size: 0x400, type: 'reserved' },
  { address: guestPhysical(0xf_0000), size: 0x1_0000, type: 'reserved' },
  { address: guestPhysical(0x10_0000), size: memory - 0x10_0000, type: 'usable' },
];

/** The image's loadable segments at their physical addresses. @throws InputError if they do not fit into RAM, or lie in each other's way or the loader's. */
export function kernelChunks(elf: ElfImage, memory: number): BootChunk[] {
  const loaded = elf.segments.filter((segment) => segment.p_type === PT.LOAD && segment.p_memsz > 0);
  if (loaded.length === 0) throw new InputError('no loadable segments', 'give a linked kernel (vmlinux)');
  for (const { p_paddr, p_filesz, p_memsz } of loaded) {
    const place = `the kernel's segment at ${formatAddress(p_paddr)}`;
    if (p_paddr < 0x1000 || p_paddr + p_memsz > memory)
      throw new InputError(
        `${place} needs memory up to ${formatAddress(p_paddr + p_memsz)}, the machine has ${memory >>> 20} MiB`,
        'give it more with --memory',
      );
    if (p_filesz > p_memsz)
      throw new InputError(`${place} has ${p_filesz} bytes in the file and ${p_memsz} in memory`);
    if (p_paddr < BOOT_DATA_END && p_paddr + p_memsz > LOADER)
      throw new InputError(
        `${place} reaches into what is the loader's, from ${formatAddress(LOADER)} to ${formatAddress(BOOT_DATA_END)}`,
      );
  }
  const sorted = loaded.toSorted((a, b) => a.p_paddr - b.p_paddr);
  sorted.forEach(({ p_paddr }, index) => {
    const before = sorted[index - 1];
    if (before && before.p_paddr + before.p_filesz > p_paddr)
      throw new InputError(`two of the kernel's segments have bytes for ${formatAddress(p_paddr)}`);
  });
  return loaded.map((segment) => ({
    address: guestPhysical(segment.p_paddr),
    bytes: slice(elf.bytes, segment.p_offset, segment.p_filesz, 'a loadable segment'),
  }));
}

/** Guest-physical address of the image's entry point. @throws InputError if no segment holds it. */
export function physicalEntry(elf: ElfImage): GuestPhysical {
  const entry = elf.header.e_entry;
  for (const { p_type, p_vaddr, p_paddr, p_memsz } of elf.segments) {
    if (p_type !== PT.LOAD) continue;
    if (entry >= p_vaddr && entry < p_vaddr + p_memsz) return guestPhysical(p_paddr + (entry - p_vaddr));
    // vmlinux names its entry point by its physical address already.
    if (entry >= p_paddr && entry < p_paddr + p_memsz) return guestPhysical(entry);
  }
  throw new InputError(`the entry point ${formatAddress(entry)} lies in no segment`);
}

/** Guest-virtual minus guest-physical address of the image's code, as linked. */
export function linkOffset(elf: ElfImage): number {
  const segment = elf.segments.find(({ p_type }) => p_type === PT.LOAD);
  return segment ? segment.p_vaddr - segment.p_paddr : 0;
}

/** Places an initrd as high as it goes. @throws InputError if it does not fit above the kernel. */
export function initrdChunk(
  bytes: Uint8Array,
  memory: number,
  kernel: readonly BootChunk[],
  kernelEnd: number,
): BootChunk {
  const address = Math.floor((memory - bytes.length) / PAGE) * PAGE;
  if (kernel.length > 0 && address < kernelEnd)
    throw new InputError(
      `the initrd of ${bytes.length} bytes does not fit above the kernel, which ends at ${formatAddress(kernelEnd)}, in ${memory >>> 20} MiB`,
      'give the machine more memory with --memory',
    );
  return { address: guestPhysical(address), bytes };
}

/** First address behind everything the kernel occupies once it runs. */
export const kernelEnd = (elf: ElfImage): number =>
  Math.max(
    ...elf.segments
      .filter(({ p_type }) => p_type === PT.LOAD)
      .map(({ p_paddr, p_memsz }) => p_paddr + p_memsz),
  );

/** A zero-terminated string. @throws InputError if it does not fit into the loader's memory. */
export function commandLineBytes(text: string, limit = BOOT_DATA_END - BOOT_DATA - 2 * PAGE): Uint8Array {
  const bytes = Buffer.from(`${text}\0`, 'latin1');
  if (bytes.length > limit)
    throw new InputError(`the command line has ${bytes.length} bytes, ${limit} are allowed`);
  return new Uint8Array(bytes);
}
