/**
 * The image that Xen's domain builder takes: the file of a burned kernel with
 * other program headers, whose segments are a prepared machine and, right
 * behind it, the wedge at its fixed address; and notes that say so
 * (xen/include/public/elfnote.h). Like all that burning adds, they go away when
 * the file is cut off and gets its old header back. Pure: bytes in, bytes out.
 */

import { appendSections } from '../../elf/append.ts';
import { readStruct, viewOf, writeStruct } from '../../elf/codec.ts';
import {
  type ElfImage,
  type FileHeader,
  findSection,
  parseElf,
  type Segment,
  sectionBytes,
} from '../../elf/image.ts';
import { InputError } from '../../elf/input-error.ts';
import { decodeRecord } from '../../elf/record.ts';
import { ELF_NHDR, ELF32_EHDR, ELF32_PHDR, PT } from '../../elf/structs.ts';
import { type BootChunk, linkOffset } from '../../machine/boot-plan.ts';
import { MACHINE_STATE, usesDisk } from '../../machine/state.ts';
import { MEBIBYTE } from '../../machine/virtual-pc.ts';
import { BURN_SECTIONS, burnedDomains, readPatchTable } from '../../substitution/burn-info.ts';
import { HYPERCALL_PAGE, WEDGE_BASE } from '../../substitution/entries.ts';
import { type GuestVirtual, guestPhysical, guestVirtual } from '../../x86/address.ts';
import { type BootFileOptions, bootFile } from '../boot-file.ts';
import { BOOT_HEADER, BOOT_MAGIC, BOOT_VERSION } from '../boot-layout.ts';

const PAGE = 4096;
const pageUp = (offset: number): number => Math.ceil(offset / PAGE) * PAGE;

/**
 * The same memory in whole pages: Xen gives pages, and those of the image
 * become the guest's as they are.
 */
export function wholePages(chunks: readonly BootChunk[]): BootChunk[] {
  const sorted = [...chunks].sort((a, b) => a.address - b.address);
  const groups: BootChunk[][] = [];
  let end = -1;
  for (const chunk of sorted) {
    if (chunk.bytes.length === 0) continue;
    if (Math.floor(chunk.address / PAGE) * PAGE >= end) groups.push([]);
    groups.at(-1)!.push(chunk);
    end = pageUp(chunk.address + chunk.bytes.length);
  }
  return groups.map((group) => {
    const last = group.at(-1)!;
    const start = Math.floor(group[0]!.address / PAGE) * PAGE;
    const bytes = new Uint8Array(pageUp(last.address + last.bytes.length) - start);
    for (const chunk of group) bytes.set(chunk.bytes, chunk.address - start);
    return { address: guestPhysical(start), bytes };
  });
}

/** A kernel burned for Xen, as the machine that it starts on is prepared. */
export interface XenImageOptions
  extends Omit<BootFileOptions, 'sites' | 'linkOffset' | 'domains' | 'escape' | 'alignment'> {
  /** The kernel with its substitutions and its wedge. */
  readonly burned: ElfImage;
}

/** Types of Xen's notes. */
const NOTE = {
  entry: 1,
  hypercallPage: 2,
  virtBase: 3,
  paddrOffset: 4,
  xenVersion: 5,
  guestOs: 6,
  guestVersion: 7,
  loader: 8,
  paeMode: 9,
  supportedFeatures: 17,
} as const;

/** XENFEAT_writable_page_tables, XENFEAT_dom0 (xen/include/public/features.h). */
const FEATURES = (1 << 0) | (1 << 11);

const word = (value: number): Uint8Array => {
  const out = new Uint8Array(4);
  viewOf(out).setUint32(0, value, true);
  return out;
};
const text = (value: string): Uint8Array => new Uint8Array(Buffer.from(`${value}\0`, 'latin1'));

function notes(entry: number, base: GuestVirtual): Uint8Array {
  const all: [number, Uint8Array][] = [
    [NOTE.guestOs, text('previrt')],
    [NOTE.guestVersion, text('1')],
    [NOTE.xenVersion, text('xen-3.0')],
    [NOTE.loader, text('generic')],
    [NOTE.paeMode, text('yes')],
    [NOTE.virtBase, word(base)],
    [NOTE.paddrOffset, word(base)],
    [NOTE.entry, word(entry)],
    [NOTE.hypercallPage, word(HYPERCALL_PAGE)],
    [NOTE.supportedFeatures, word(FEATURES)],
  ];
  const name = text('Xen');
  return Buffer.concat(
    all.flatMap(([type, value]) => {
      const header = new Uint8Array(ELF_NHDR.size);
      writeStruct(ELF_NHDR, viewOf(header), 0, {
        n_namesz: name.length,
        n_descsz: value.length,
        n_type: type,
      });
      return [header, name, value, new Uint8Array(-value.length & 3)];
    }),
  );
}

/** What a domain is built from: the prepared machine, the notes, and the program headers that name them and the wedge. */
const DOMAIN_SECTION = '.previrt.xen';

/** Lowest address that the prepared machine may begin at: Xen's builder wants it in the upper gibibyte. */
const LOWEST = 0xc000_0000;

/** @throws InputError if a machine of so many bytes cannot be handed over */
export function checkHandedOver(size: number): void {
  if (WEDGE_BASE - size < LOWEST)
    throw new InputError(
      `the machine has ${size} bytes to begin with, ${WEDGE_BASE - LOWEST} can be handed over`,
      'take a smaller initrd, or a guest with less memory in use',
    );
}

type MachineOptions = Omit<BootFileOptions, 'escape' | 'alignment'>;

/** The prepared machine with its last word, which tells the wedge where it begins. */
function preparedMachine(options: MachineOptions): { base: GuestVirtual; bytes: Uint8Array } {
  const plan = { ...options.plan, chunks: wholePages(options.plan.chunks) };
  const boot = bootFile({ ...options, plan, escape: false, alignment: PAGE });
  const size = pageUp(boot.length + 4);
  checkHandedOver(size);
  const base = WEDGE_BASE - size;
  const bytes = new Uint8Array(size);
  bytes.set(boot);
  viewOf(bytes).setUint32(size - 4, base, true);
  return { base: guestVirtual(base), bytes };
}

/**
 * The file of the burned kernel, under a header by which it is a domain.
 * @throws InputError if kernel and initrd are too large to be handed over
 */
export function xenImage({ burned, ...options }: XenImageOptions): Uint8Array {
  const carried = findSection(burned, BURN_SECTIONS.wedge);
  if (!carried) throw new InputError('the image carries no wedge', 'burn it again');
  const wedge = parseElf(sectionBytes(burned, carried));
  return domainImage(burned, wedge, carried.sh_offset, {
    ...options,
    sites: readPatchTable(burned),
    linkOffset: linkOffset(burned),
    domains: burnedDomains(burned),
  });
}

/**
 * A domain that takes up a guest.
 * @param wedge the wedge's program
 * @throws InputError if the guest's memory is too large to be handed over
 */
export function resumeImage(wedge: Uint8Array, options: MachineOptions): Uint8Array {
  const program = parseElf(wedge);
  return domainImage(program, program, 0, options);
}

/** A file that has the wedge at an offset, with the machine behind it, under a header by which it is a domain. */
function domainImage(
  carrier: ElfImage,
  wedge: ElfImage,
  wedgeOffset: number,
  options: MachineOptions,
): Uint8Array {
  const loaded = wedge.segments.filter(({ p_type }) => p_type === PT.LOAD);
  const machine = preparedMachine(options);
  const note = notes(wedge.header.e_entry, machine.base);

  // The section: machine, notes, program headers. Where it lies is known once it is there.
  const headers = machine.bytes.length + note.length;
  const count = 2 + loaded.length;
  const content = new Uint8Array(headers + count * ELF32_PHDR.size);
  content.set(machine.bytes);
  content.set(note, machine.bytes.length);
  const file = parseElf(appendSections(carrier, [{ name: DOMAIN_SECTION, bytes: content }]));
  const offset = findSection(file, DOMAIN_SECTION)!.sh_offset;

  const segment = (type: number, at: number, size: number, address: number, memory: number): Segment => ({
    p_type: type,
    p_offset: at,
    p_vaddr: address,
    p_paddr: address,
    p_filesz: size,
    p_memsz: memory,
    p_flags: 7,
    p_align: 4,
  });
  const size = machine.bytes.length;
  const segments = [
    segment(PT.LOAD, offset, size, machine.base, size),
    ...loaded.map(({ p_vaddr, p_offset, p_filesz, p_memsz }) =>
      segment(PT.LOAD, wedgeOffset + p_offset, p_filesz, p_vaddr, p_memsz),
    ),
    segment(PT.NOTE, offset + size, note.length, 0, 0),
  ];
  segments.forEach((header, index) => {
    writeStruct(ELF32_PHDR, file.view, offset + headers + index * ELF32_PHDR.size, header);
  });
  const header: FileHeader = {
    ...file.header,
    e_entry: wedge.header.e_entry,
    e_phoff: offset + headers,
    e_phentsize: ELF32_PHDR.size,
    e_phnum: count,
  };
  writeStruct(ELF32_EHDR, file.view, 0, header);
  return file.bytes;
}

interface PreparedHead {
  readonly magic: number;
  readonly version: number;
  readonly ram_size: number;
  readonly state_offset: number;
}

/** What a domain's file says of the machine in it. */
export interface MachineIn {
  /** Bytes of guest RAM. */
  readonly memory: number;
  /** Whether a guest goes on in it that uses its disk. */
  readonly usesDisk: boolean;
}

/**
 * Undefined for an image that is no domain.
 * @throws InputError if another version of previrt has prepared it
 */
export function machineIn(elf: ElfImage): MachineIn | undefined {
  const section = findSection(elf, DOMAIN_SECTION);
  if (!section) return undefined;
  const bytes = sectionBytes(elf, section);
  const boot = readStruct<PreparedHead>(BOOT_HEADER, viewOf(bytes), 0, section.name);
  if (boot.magic !== BOOT_MAGIC || boot.version !== BOOT_VERSION)
    throw new InputError('the machine in it was prepared by another version of previrt', 'burn it again');
  const state =
    boot.state_offset === 0
      ? undefined
      : decodeRecord(MACHINE_STATE, bytes, boot.state_offset, 'the machine state in it');
  return { memory: boot.ram_size, usesDisk: state !== undefined && usesDisk(state) };
}

/**
 * Bytes of a domain's memory: the guest's RAM, the wedge, the page tables that
 * it fills, and Xen's and its own lists of the domain's pages.
 */
export const domainMemory = (ram: number): number =>
  ram + 16 * MEBIBYTE + Math.ceil(ram / 256 / MEBIBYTE) * MEBIBYTE;
