/**
 * Linked files that a kernel carries in its data as bytes, to be mapped into
 * user processes: the vDSO. It is linked apart, so it has site records of its
 * own. As it is mapped by pages, it starts at a page boundary; that and its
 * site section tell it from any other bytes, so no symbol is needed.
 */

import { type ElfImage, findSection, parseElf, sectionBytes } from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';
import { ET, FORMATS, SHF } from '../elf/structs.ts';
import { type FileOffset, fileOffset, type GuestVirtual, guestVirtual } from '../x86/address.ts';
import { SITE_SECTION } from '../x86/site-record.ts';
import { readSites, type Site } from './site.ts';

export interface EmbeddedImage {
  readonly elf: ElfImage;
  /** Where its first byte lies, in the kernel's address space and in the kernel's file. */
  readonly address: GuestVirtual;
  readonly offset: FileOffset;
}

const PAGE = 4096;
/** Bytes of the largest that is looked for: a vDSO has some thousands. Without an end each page could have one to the end of the section. */
const LARGEST = 0x1_0000;

/** Shared objects of the same class in the loaded data of an image. */
export function embeddedImages(elf: ElfImage): EmbeddedImage[] {
  const found: EmbeddedImage[] = [];
  for (const section of elf.sections) {
    if (!(section.sh_flags & SHF.ALLOC) || section.sh_flags & SHF.EXECINSTR) continue;
    const bytes = sectionBytes(elf, section);
    const start = Math.ceil(section.sh_addr / PAGE) * PAGE - section.sh_addr;
    for (let offset = start; offset + 4 <= bytes.length; offset += PAGE) {
      const inner = parseSharedObject(bytes.subarray(offset, offset + LARGEST));
      if (inner?.class !== elf.class) continue;
      found.push({
        elf: inner,
        address: guestVirtual(section.sh_addr + offset),
        offset: fileOffset(section.sh_offset + offset),
      });
      // Nothing lies in it.
      const end = inner.header.e_shoff + inner.sections.length * FORMATS[inner.class].section.size;
      offset += Math.floor(Math.max(end - 1, 0) / PAGE) * PAGE;
    }
  }
  return found;
}

function parseSharedObject(bytes: Uint8Array): ElfImage | undefined {
  if (bytes[0] !== 0x7f || bytes[1] !== 0x45) return undefined;
  try {
    const elf = parseElf(bytes);
    return elf.header.e_type === ET.DYN ? elf : undefined;
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}

/** Sites of the embedded images, at the addresses of their bytes in the kernel. */
function embeddedSites({ elf, address, offset }: EmbeddedImage): Site[] {
  if (!findSection(elf, SITE_SECTION)) return [];
  return readSites(elf).map((site) => ({
    ...site,
    address: guestVirtual(address + site.offset),
    offset: fileOffset(offset + site.offset),
    section: `vdso:${site.section}`,
  }));
}

/** All sites of a kernel, its vDSO's included, by address. @throws InputError as `readSites`. */
export function readAllSites(elf: ElfImage): Site[] {
  const sites = [...readSites(elf), ...embeddedImages(elf).flatMap(embeddedSites)];
  return sites.sort((a, b) => a.address - b.address);
}
