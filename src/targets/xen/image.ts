/**
 * The image that Xen's domain builder takes: an ELF file whose segments are a
 * prepared machine and, right behind it, the wedge at its fixed address; and
 * notes that say so (xen/include/public/elfnote.h). Pure: bytes in, bytes out.
 */

import { viewOf, writeStruct } from '../../elf/codec.ts';
import { parseElf } from '../../elf/image.ts';
import { InputError } from '../../elf/input-error.ts';
import { ELF_NHDR, ELF32_EHDR, ELF32_PHDR, EM, ET, PT } from '../../elf/structs.ts';
import type { BootChunk, BootPlan } from '../../machine/boot-plan.ts';
import type { PatchEntry } from '../../sites/patch-table.ts';
import { HYPERCALL_PAGE, WEDGE_BASE } from '../../substitution/entries.ts';
import { type GuestVirtual, guestPhysical, guestVirtual } from '../../x86/address.ts';
import { bootFile } from '../boot-file.ts';

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

export interface XenImageOptions {
  /** The wedge's ELF file. */
  readonly wedge: Uint8Array;
  readonly plan: BootPlan;
  /** Bytes of guest RAM. */
  readonly ramSize: number;
  readonly sites: readonly PatchEntry[];
  /** Guest-virtual minus guest-physical address of the kernel, as linked. */
  readonly linkOffset: number;
  /** Console text that means a panic; empty: none. */
  readonly panicPattern: string;
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

interface Piece {
  readonly type: number;
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly memorySize: number;
}

function elfFile(entry: number, pieces: readonly Piece[]): Uint8Array {
  const headers = ELF32_EHDR.size + pieces.length * ELF32_PHDR.size;
  const size = pieces.reduce((sum, { bytes }) => sum + pageUp(bytes.length), pageUp(headers));
  const out = new Uint8Array(size);
  const view = viewOf(out);
  writeStruct(ELF32_EHDR, view, 0, {
    e_ident: Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 1, 1, 1, ...new Array(9).fill(0)),
    e_type: ET.EXEC,
    e_machine: EM.I386,
    e_version: 1,
    e_entry: entry,
    e_phoff: ELF32_EHDR.size,
    e_shoff: 0,
    e_flags: 0,
    e_ehsize: ELF32_EHDR.size,
    e_phentsize: ELF32_PHDR.size,
    e_phnum: pieces.length,
    e_shentsize: 0,
    e_shnum: 0,
    e_shstrndx: 0,
  });
  let offset = pageUp(headers);
  pieces.forEach(({ type, address, bytes, memorySize }, index) => {
    writeStruct(ELF32_PHDR, view, ELF32_EHDR.size + index * ELF32_PHDR.size, {
      p_type: type,
      p_offset: offset,
      p_vaddr: address,
      p_paddr: address,
      p_filesz: bytes.length,
      p_memsz: memorySize,
      p_flags: 7,
      p_align: 4,
    });
    out.set(bytes, offset);
    offset += pageUp(bytes.length);
  });
  return out;
}

/** Lowest address that the prepared machine may begin at: Xen's builder wants it in the upper gibibyte. */
const LOWEST = 0xc000_0000;

/** @throws InputError if kernel and initrd are too large to be handed over */
export function xenImage(options: XenImageOptions): Uint8Array {
  const wedge = parseElf(options.wedge);
  const plan: BootPlan = { ...options.plan, chunks: wholePages(options.plan.chunks) };
  const boot = bootFile({ ...options, plan, escape: false, alignment: PAGE });
  // Its last word tells the wedge where it begins.
  const size = pageUp(boot.length + 4);
  const base = WEDGE_BASE - size;
  if (base < LOWEST)
    throw new InputError(
      `kernel and initrd have ${size} bytes, ${WEDGE_BASE - LOWEST} can be handed over`,
      'take a smaller initrd',
    );
  const machine = new Uint8Array(size);
  machine.set(boot);
  viewOf(machine).setUint32(size - 4, base, true);
  const entry = wedge.header.e_entry;
  const note = notes(entry, guestVirtual(base));
  const loaded = wedge.segments.filter(({ p_type }) => p_type === PT.LOAD);
  return elfFile(entry, [
    { type: PT.LOAD, address: base, bytes: machine, memorySize: size },
    ...loaded.map(({ p_type, p_vaddr, p_offset, p_filesz, p_memsz }) => ({
      type: p_type,
      address: p_vaddr,
      bytes: options.wedge.subarray(p_offset, p_offset + p_filesz),
      memorySize: p_memsz,
    })),
    { type: PT.NOTE, address: 0, bytes: note, memorySize: 0 },
  ]);
}
