/**
 * An ELF file read: header, segments and sections, all inside the file.
 *
 * Addresses are numbers: unsigned in 32-bit files, signed in 64-bit ones (see
 * codec.ts). `formatAddress` prints both as they are written elsewhere.
 */

import { readStruct, viewOf } from './codec.ts';
import { InputError } from './input-error.ts';
import { ELFDATA2LSB, type ElfClass, ET, FORMATS, PN_XNUM, PT, SHF, SHN, SHT } from './structs.ts';

export interface FileHeader {
  readonly e_ident: Uint8Array;
  readonly e_type: number;
  readonly e_machine: number;
  readonly e_version: number;
  readonly e_entry: number;
  readonly e_phoff: number;
  readonly e_shoff: number;
  readonly e_flags: number;
  readonly e_ehsize: number;
  readonly e_phentsize: number;
  readonly e_phnum: number;
  readonly e_shentsize: number;
  readonly e_shnum: number;
  readonly e_shstrndx: number;
}

export interface Segment {
  readonly p_type: number;
  readonly p_flags: number;
  readonly p_offset: number;
  readonly p_vaddr: number;
  readonly p_paddr: number;
  readonly p_filesz: number;
  readonly p_memsz: number;
  readonly p_align: number;
}

export interface SectionHeader {
  readonly sh_name: number;
  readonly sh_type: number;
  readonly sh_flags: number;
  readonly sh_addr: number;
  readonly sh_offset: number;
  readonly sh_size: number;
  readonly sh_link: number;
  readonly sh_info: number;
  readonly sh_addralign: number;
  readonly sh_entsize: number;
}

export interface Section extends SectionHeader {
  readonly index: number;
  readonly name: string;
}

export interface ElfImage {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly class: ElfClass;
  readonly header: FileHeader;
  readonly segments: readonly Segment[];
  /** With the null section at index 0, if the file has sections at all. */
  readonly sections: readonly Section[];
  /** The section that holds the sections' names. */
  readonly nameSection: number;
}

const MAGIC = [0x7f, 0x45, 0x4c, 0x46];

export const formatAddress = (address: number): string =>
  `0x${BigInt.asUintN(64, BigInt(address)).toString(16).padStart(8, '0')}`;

/** @throws InputError unless [offset, offset + size) lies in the file. */
export function slice(bytes: Uint8Array, offset: number, size: number, what: string): Uint8Array {
  if (!(offset >= 0 && size >= 0 && offset + size <= bytes.length))
    throw new InputError(
      `truncated: ${what} should lie at 0x${offset.toString(16)}+0x${size.toString(16)}, the file ends at 0x${bytes.length.toString(16)}`,
    );
  return bytes.subarray(offset, offset + size);
}

/** The zero-terminated string at `offset` of a string table. @throws InputError if it does not end in the table. */
export function stringAt(table: Uint8Array, offset: number, what: string): string {
  const end = offset < table.length ? table.indexOf(0, offset) : -1;
  if (end < 0) throw new InputError(`${what} has its name outside the string table`);
  return Buffer.from(table.buffer, table.byteOffset + offset, end - offset).toString('latin1');
}

/** How much room a file's names may take, in times of the file's own: they may share bytes of their table, but not without end. */
const ROOM_FOR_NAMES = 4;

/** Reads names from a string table. @throws InputError from it as `stringAt`, and if they take too much room for a file of that size */
export function nameReader(table: Uint8Array, fileSize: number): (offset: number, what: string) => string {
  let room = ROOM_FOR_NAMES * fileSize;
  return (offset, what) => {
    const name = stringAt(table, offset, what);
    room -= name.length;
    if (room < 0) throw new InputError(`${what}: the names take more than ${ROOM_FOR_NAMES} times the file`);
    return name;
  };
}

/** @throws InputError if the file is not a well-formed little-endian ELF file. */
export function parseElf(file: Uint8Array): ElfImage {
  // A plain array of bytes even where a Buffer was given, whose slice() would not copy.
  const bytes = new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  if (!MAGIC.every((byte, index) => bytes[index] === byte))
    throw new InputError('not an ELF file', 'give the vmlinux that the build leaves, not the bzImage');
  const elfClass = bytes[4] === 1 ? 32 : bytes[4] === 2 ? 64 : undefined;
  if (!elfClass) throw new InputError(`unknown ELF class ${bytes[4]}`);
  if (bytes[5] !== ELFDATA2LSB) throw new InputError('a big-endian ELF file, so not for x86');

  const view = viewOf(bytes);
  const format = FORMATS[elfClass];
  const header = readStruct<FileHeader>(format.header, view, 0, 'the ELF header');
  if (header.e_shoff !== 0 && header.e_shentsize !== format.section.size)
    throw new InputError(`section headers of ${header.e_shentsize} bytes, not ${format.section.size}`);
  if (header.e_phnum !== 0 && header.e_phentsize !== format.segment.size)
    throw new InputError(`program headers of ${header.e_phentsize} bytes, not ${format.segment.size}`);

  const readSection = (index: number) =>
    readStruct<SectionHeader>(
      format.section,
      view,
      header.e_shoff + index * format.section.size,
      `section header ${index}`,
    );
  // Counts that do not fit the header's 16 bits are in section 0 (gABI "Sections").
  const first = header.e_shoff === 0 ? undefined : readSection(0);
  const sectionCount = header.e_shnum || (first?.sh_size ?? 0);
  const nameSection = header.e_shstrndx === SHN.XINDEX ? (first?.sh_link ?? 0) : header.e_shstrndx;
  const segmentCount = header.e_phnum === PN_XNUM && first ? first.sh_info : header.e_phnum;

  if (header.e_shoff !== 0)
    slice(bytes, header.e_shoff, sectionCount * format.section.size, 'the section header table');
  const headers = header.e_shoff === 0 ? [] : Array.from({ length: sectionCount }, (_, i) => readSection(i));
  let contents = 0;
  headers.forEach((section, index) => {
    if (index > 0 && section.sh_type !== SHT.NOBITS && section.sh_type !== SHT.NULL)
      contents += slice(bytes, section.sh_offset, section.sh_size, `section ${index}`).length;
  });
  // The same bytes would be looked at once for each section that they are in.
  if (contents > bytes.length)
    throw new InputError(`the sections overlap: they have ${contents} bytes, the file ${bytes.length}`);
  const nameHeader = headers[nameSection];
  if (nameSection !== 0 && (!nameHeader || nameHeader.sh_type !== SHT.STRTAB))
    throw new InputError(`section ${nameSection} should hold the section names and does not`);
  const names =
    nameSection === 0 || !nameHeader
      ? new Uint8Array(1)
      : slice(bytes, nameHeader.sh_offset, nameHeader.sh_size, 'the section names');

  const nameAt = nameReader(names, bytes.length);

  slice(bytes, header.e_phoff, segmentCount * format.segment.size, 'the program header table');
  const segments = Array.from({ length: segmentCount }, (_, index) => {
    const offset = header.e_phoff + index * format.segment.size;
    const segment = readStruct<Segment>(format.segment, view, offset, `program header ${index}`);
    if (segment.p_type === PT.LOAD) slice(bytes, segment.p_offset, segment.p_filesz, `segment ${index}`);
    return segment;
  });

  return {
    bytes,
    view,
    class: elfClass,
    header,
    segments,
    sections: headers.map((section, index) => ({
      ...section,
      index,
      name: index === 0 ? '' : nameAt(section.sh_name, `section ${index}`),
    })),
    nameSection,
  };
}

/** Whether a file is a little-endian ELF object file, not linked yet: a module. The rest of it may be anything. */
export const isObjectFile = (file: Uint8Array): boolean =>
  MAGIC.every((byte, index) => file[index] === byte) &&
  file[5] === ELFDATA2LSB &&
  file[16] === ET.REL &&
  file[17] === 0;

/** The bytes of a section in the file; none for one that occupies no file space. Not a copy. */
export const sectionBytes = (elf: ElfImage, section: Section): Uint8Array =>
  section.sh_type === SHT.NOBITS || section.sh_type === SHT.NULL
    ? new Uint8Array(0)
    : elf.bytes.subarray(section.sh_offset, section.sh_offset + section.sh_size);

export const findSection = (elf: ElfImage, name: string): Section | undefined =>
  elf.sections.find((section) => section.name === name);

/** Sections that hold machine code in the file. */
export const codeSections = (elf: ElfImage): Section[] =>
  elf.sections.filter(
    (section) =>
      section.sh_type === SHT.PROGBITS &&
      (section.sh_flags & (SHF.ALLOC | SHF.EXECINSTR)) === (SHF.ALLOC | SHF.EXECINSTR),
  );

/** The loaded section that has [address, address + size) in the file, if one does. */
export const sectionAt = (elf: ElfImage, address: number, size: number): Section | undefined =>
  elf.sections.find(
    (section) =>
      (section.sh_flags & SHF.ALLOC) !== 0 &&
      section.sh_type !== SHT.NOBITS &&
      address >= section.sh_addr &&
      address + size <= section.sh_addr + section.sh_size,
  );

/** Where [address, address + size) lies in the file, if a loaded section has it there. */
export function offsetAt(elf: ElfImage, address: number, size: number): number | undefined {
  const section = sectionAt(elf, address, size);
  return section && section.sh_offset + address - section.sh_addr;
}
