/**
 * A domain's memory as `xl dump-core` writes it: an ELF file with sections, of
 * which `.xen_pages` has the pages that the domain owns and `.xen_p2m` says
 * which machine frame each is, by pseudo-physical frame, ascending
 * (docs/misc/dump-core-format.txt of Xen). The state of the guest in it is found
 * from the domain's first page, the boot file's head, where the wedge of a guest
 * that stands still says where it is.
 *
 * The file may be a stranger's: nothing is held that its own size does not bound.
 */

import { fstatSync } from 'node:fs';
import { readStruct, viewOf } from '../../elf/codec.ts';
import { type FileHeader, type SectionHeader, stringAt } from '../../elf/image.ts';
import { InputError } from '../../elf/input-error.ts';
import { decodeNotes } from '../../elf/notes.ts';
import { decodeRecord, defineRecord } from '../../elf/record.ts';
import { ELF64_EHDR, ELF64_SHDR, ELFDATA2LSB, ET } from '../../elf/structs.ts';
import { readFully } from '../../machine/ram.ts';
import type { Machine } from '../../machine/state.ts';
import { checkLimits } from '../../machine/state-limits.ts';
import { BOOT_HEADER, BOOT_MAGIC, BOOT_VERSION } from '../boot-layout.ts';
import { domainState, FRAME_SIZE, type MachineMemory } from './frames.ts';

/** XEN_ELFNOTE_DUMPCORE_HEADER and _FORMAT_VERSION (xen/include/public/elfnote.h). */
const NOTE = { header: 0x200_0001, formatVersion: 0x200_0003 } as const;

const CORE_HEADER = defineRecord('xen_dumpcore_elfnote_header_desc', 'What a domain has.', [
  ['xch_magic', 'u64', 'MAGIC'],
  ['xch_nr_vcpus', 'u64', ''],
  ['xch_nr_pages', 'u64', ''],
  ['xch_page_size', 'u64', 'bytes'],
]);
const CORE_VERSION = defineRecord('xen_dumpcore_elfnote_format_version_desc', 'Of the format.', [
  ['minor', 'u32', 'compatible changes'],
  ['major', 'u32', 'all others'],
]);
/** XC_CORE_MAGIC: of a paravirtualized domain. */
const MAGIC = 0xf00f_ebedn;

/** Bytes of the entries of `.xen_p2m`: pseudo-physical frame, machine frame; all ones for a page that is none. */
const P2M_ENTRY = 16;

/** More of either than Xen writes: bytes of notes or names, and sections. */
const MOST_SMALL = 65_536;
const MOST_SECTIONS = 64;
/** Pages of 4 GiB: no domain has more, whose guest has 3 at most. */
const MOST_PAGES = 2 ** 20;
/** Entries of `.xen_p2m` that are read at once. */
const PORTION = 65_536;

type Placed = Pick<SectionHeader, 'sh_offset' | 'sh_size'>;

/** An ELF file's sections by name, read as they are wanted. */
class Sections {
  readonly #file: number;
  readonly #fileSize: number;
  readonly #byName: ReadonlyMap<string, Placed>;

  constructor(file: number) {
    this.#file = file;
    this.#fileSize = fstatSync(file).size;
    const bytes = this.#part(0, Math.min(ELF64_EHDR.size, this.#fileSize), 'the ELF header');
    if (![0x7f, 0x45, 0x4c, 0x46, 2, ELFDATA2LSB].every((byte, index) => bytes[index] === byte))
      throw new InputError('not the core of a domain', 'give what `xl dump-core` has written');
    const header = readStruct<FileHeader>(ELF64_EHDR, viewOf(bytes), 0, 'the ELF header');
    if (header.e_type !== ET.CORE)
      throw new InputError('not the core of a domain', 'give what `xl dump-core` has written');
    if (header.e_shentsize !== ELF64_SHDR.size || header.e_shnum > MOST_SECTIONS)
      throw new InputError(`${header.e_shnum} section headers of ${header.e_shentsize} bytes`);
    const size = header.e_shnum * ELF64_SHDR.size;
    const table = viewOf(this.#part(header.e_shoff, size, 'the section header table'));
    const headers = Array.from({ length: header.e_shnum }, (_, index) =>
      readStruct<SectionHeader>(ELF64_SHDR, table, index * ELF64_SHDR.size, `section header ${index}`),
    );
    const names = headers[header.e_shstrndx];
    if (!names) throw new InputError('the sections have no names');
    const text = this.#small(names, 'the string table of the sections');
    this.#byName = new Map(
      headers.map((section, index) => [stringAt(text, section.sh_name, `section header ${index}`), section]),
    );
  }

  /** @throws InputError unless it lies in the file */
  #part(offset: number, size: number, what: string): Uint8Array {
    this.#check(offset, size, what);
    const bytes = new Uint8Array(size);
    readFully(this.#file, bytes, offset, what);
    return bytes;
  }

  #check(offset: number, size: number, what: string): void {
    if (!(offset >= 0 && size >= 0 && offset + size <= this.#fileSize))
      throw new InputError(
        `truncated: ${what} should lie at 0x${offset.toString(16)}+0x${size.toString(16)}, the file ends at 0x${this.#fileSize.toString(16)}`,
      );
  }

  #small({ sh_offset, sh_size }: Placed, what: string): Uint8Array {
    if (sh_size > MOST_SMALL) throw new InputError(`${what} has ${sh_size} bytes, more than ${MOST_SMALL}`);
    return this.#part(sh_offset, sh_size, what);
  }

  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /** A section of so many bytes. @throws InputError if it is not there, is another size, or ends behind the file */
  place(name: string, size: number): Placed {
    const section = this.#byName.get(name);
    if (!section) throw new InputError(`section ${name} is missing`);
    if (section.sh_size !== size)
      throw new InputError(`section ${name} has ${section.sh_size} bytes, not ${size}`);
    this.#check(section.sh_offset, size, `section ${name}`);
    return section;
  }

  /** A small one's bytes. */
  read(name: string): Uint8Array {
    const section = this.#byName.get(name);
    if (!section) throw new InputError(`section ${name} is missing`);
    return this.#small(section, `section ${name}`);
  }
}

/** Pages of the domain. @throws InputError for a core of another kind */
function pageCount(sections: Sections): number {
  const name = '.note.Xen';
  const notes = decodeNotes(sections.read(name)).filter(({ owner }) => owner === 'Xen');
  const find = (type: number): Uint8Array => {
    const note = notes.find((each) => each.type === type);
    if (!note) throw new InputError(`section ${name} has no note of type 0x${type.toString(16)}`);
    return note.bytes;
  };
  const { major, minor } = decodeRecord(CORE_VERSION, find(NOTE.formatVersion), 0, `${name}: the version`);
  if (major !== 0)
    throw new InputError(`section ${name}: version ${major}.${minor} of the format is not known`);
  const header = decodeRecord(CORE_HEADER, find(NOTE.header), 0, `${name}: the header`);
  if (header.xch_magic !== MAGIC || sections.has('.xen_pfn'))
    throw new InputError('the core of a domain that is not paravirtualized: not one of previrt');
  if (header.xch_page_size !== BigInt(FRAME_SIZE) || header.xch_nr_pages > MOST_PAGES)
    throw new InputError(
      `section ${name}: ${header.xch_nr_pages} pages of ${header.xch_page_size} bytes are no domain of previrt`,
    );
  return Number(header.xch_nr_pages);
}

interface CoreMemory extends MachineMemory {
  /** Machine frame of the domain's first page. */
  readonly first: number | undefined;
}

function coreMemory(file: number): CoreMemory {
  const sections = new Sections(file);
  const count = pageCount(sections);
  const pages = sections.place('.xen_pages', count * FRAME_SIZE).sh_offset;
  const table = sections.place('.xen_p2m', count * P2M_ENTRY).sh_offset;
  // Frame and index of the page in one number, to be sorted and searched: 32 and 20 bits.
  const sorted = new Float64Array(count);
  let known = 0;
  let first: number | undefined;
  const portion = new Uint8Array(PORTION * P2M_ENTRY);
  for (let start = 0; start < count; start += PORTION) {
    const entries = portion.subarray(0, Math.min(PORTION, count - start) * P2M_ENTRY);
    readFully(file, entries, table + start * P2M_ENTRY, 'section .xen_p2m');
    const view = viewOf(entries);
    for (let at = 0; at < entries.length; at += P2M_ENTRY) {
      const [frame, beyond] = [view.getUint32(at + 8, true), view.getUint32(at + 12, true)];
      // The wedge's frames have 32 bits.
      if (beyond !== 0) continue;
      if (view.getBigUint64(at, true) === 0n) first = frame;
      sorted[known++] = frame * MOST_PAGES + start + at / P2M_ENTRY;
    }
  }
  const found = sorted.subarray(0, known).sort();
  return {
    file,
    first,
    place(frame) {
      const index = firstFrom(found, frame * MOST_PAGES);
      const key = found[index];
      return key !== undefined && key < (frame + 1) * MOST_PAGES
        ? pages + (key % MOST_PAGES) * FRAME_SIZE
        : undefined;
    },
  };
}

/** Index of the first that is not less. */
function firstFrom(sorted: Float64Array, least: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]! < least) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The guest in the core does not stand still. */
export class GuestRuns extends InputError {
  constructor() {
    super('the guest in it does not stand still', 'tell it to: xl sysrq DOMAIN S; then dump its core again');
  }
}

interface Head {
  readonly magic: number;
  readonly version: number;
  readonly told_frame: number;
  readonly told_pages: number;
}

/**
 * The guest in the core of a domain, in an open file that is read as its RAM is.
 * @throws InputError if it is none of a domain of previrt's, or the guest did not stand still
 */
export function coreState(file: number): Machine {
  const memory = coreMemory(file);
  const place = memory.first === undefined ? undefined : memory.place(memory.first);
  if (place === undefined) throw new InputError("section .xen_p2m lacks the domain's first page");
  const bytes = new Uint8Array(BOOT_HEADER.size);
  readFully(file, bytes, place, 'section .xen_pages');
  const head = readStruct<Head>(BOOT_HEADER, viewOf(bytes), 0, "the domain's first page");
  if (head.magic !== BOOT_MAGIC)
    throw new InputError('the domain was not started from an image that previrt has made');
  if (head.version !== BOOT_VERSION)
    throw new InputError('the domain was started from an image of another version of previrt');
  if (head.told_frame === 0) throw new GuestRuns();
  const machine = domainState(memory, { root: head.told_frame, pages: head.told_pages }, false);
  checkLimits(machine.state);
  return machine;
}
