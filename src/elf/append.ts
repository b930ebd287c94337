/**
 * Appends sections behind everything a file has, so that cutting the file off
 * at its old size and restoring its header gives the old file back, byte for byte.
 */

import { viewOf, writeStruct } from './codec.ts';
import { type ElfImage, type FileHeader, type SectionHeader, sectionBytes } from './image.ts';
import { InputError } from './input-error.ts';
import { FORMATS, SHN, SHT } from './structs.ts';

export interface NewSection {
  readonly name: string;
  readonly bytes: Uint8Array;
}

const ALIGNMENT = 16;
const align = (offset: number): number => Math.ceil(offset / ALIGNMENT) * ALIGNMENT;

/**
 * A new file: the old bytes, the new sections (not loaded), a longer table of
 * section names, and a new section header table. Only the header differs in
 * the old part.
 * @throws InputError if the file has no sections.
 */
export function appendSections(elf: ElfImage, additions: readonly NewSection[]): Uint8Array {
  const oldNames = elf.sections[elf.nameSection];
  if (elf.nameSection === 0 || !oldNames) throw new InputError('the file has no section headers');
  const format = FORMATS[elf.class];
  const count = elf.sections.length + additions.length;
  if (count >= SHN.LORESERVE) throw new InputError(`${count} sections are more than can be written`);

  const names = Buffer.concat([
    sectionBytes(elf, oldNames),
    ...additions.map((section) => Buffer.from(`${section.name}\0`, 'latin1')),
  ]);
  let end = elf.bytes.length;
  const place = (size: number): number => {
    const offset = align(end);
    end = offset + size;
    return offset;
  };

  let nameOffset = oldNames.sh_size;
  const added = additions.map((section): SectionHeader => {
    const sh_name = nameOffset;
    nameOffset += section.name.length + 1;
    return {
      sh_name,
      sh_type: SHT.PROGBITS,
      sh_flags: 0,
      sh_addr: 0,
      sh_offset: place(section.bytes.length),
      sh_size: section.bytes.length,
      sh_link: 0,
      sh_info: 0,
      sh_addralign: ALIGNMENT,
      sh_entsize: 0,
    };
  });
  const namesOffset = place(names.length);
  const tableOffset = place(count * format.section.size);

  const out = new Uint8Array(end);
  const view = viewOf(out);
  out.set(elf.bytes);
  additions.forEach((section, index) => {
    out.set(section.bytes, added[index]!.sh_offset);
  });
  out.set(names, namesOffset);
  const headers: SectionHeader[] = [...elf.sections, ...added];
  headers[elf.nameSection] = { ...oldNames, sh_offset: namesOffset, sh_size: names.length };
  headers.forEach((section, index) => {
    writeStruct(format.section, view, tableOffset + index * format.section.size, section);
  });
  const header: FileHeader = {
    ...elf.header,
    e_shoff: tableOffset,
    e_shnum: count,
    e_shstrndx: elf.nameSection,
  };
  writeStruct(format.header, view, 0, header);
  return out;
}

/** The bytes that `appendSections` changes in the old part of the file. */
export const headerBytes = (elf: ElfImage): Uint8Array =>
  new Uint8Array(elf.bytes.subarray(0, FORMATS[elf.class].header.size));

/** The inverse of `appendSections`. @throws InputError if the file is shorter than it was. */
export function removeAppended(bytes: Uint8Array, originalSize: number, header: Uint8Array): Uint8Array {
  if (!(header.length <= originalSize && originalSize <= bytes.length))
    throw new InputError(`truncated: ${bytes.length} bytes, fewer than the ${originalSize} before burning`);
  const out = new Uint8Array(bytes.subarray(0, originalSize));
  out.set(header);
  return out;
}
