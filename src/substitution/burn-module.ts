/**
 * Burning a module ahead of time: for kernels that do not announce theirs. Bytes
 * to bytes. Nobody knows yet where the module will lie, so each section of code
 * brings along what the wedge has to know, and needs no new relocation:
 *
 *   code      each slot calls the stub, at a distance that stays
 *   stub      calls the wedge through its pointer, whose address is fixed
 *   table     the section's patch table; addresses are distances from it
 *
 * The first call tells the wedge where the table lies. From then on the section
 * is as one that was announced: the wedge burns its slots as it does any
 * module's (wedge/run/modules.c). A relocation of a slot's operand goes to the
 * slot's original bytes in the table.
 */

import { appendSections, headerBytes } from '../elf/append.ts';
import { viewOf, writeStruct } from '../elf/codec.ts';
import {
  codeSections,
  type ElfImage,
  findSection,
  parseElf,
  type Section,
  sectionBytes,
} from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';
import { R_386, relocationsOf } from '../elf/relocations.ts';
import { EM, ET, FORMATS, SHF } from '../elf/structs.ts';
import { readSymbols } from '../elf/symbols.ts';
import {
  encodePatchTable,
  PATCH_ENTRY,
  PATCH_NOT_BURNED,
  PATCH_TABLE_HEADER,
  patchEntry,
} from '../sites/patch-table.ts';
import { readSites, type Site } from '../sites/site.ts';
import { guestVirtual } from '../x86/address.ts';
import { SITE_FLAGS, SITE_RECORD_SIZE, SITE_SECTION } from '../x86/site-record.ts';
import type { BurnChoice } from './burn.ts';
import { BURN_SECTIONS, digestOf, encodeBurnInfo, readBurnInfo } from './burn-info.ts';
import { type BurnTarget, burnTarget } from './select.ts';
import { callTemplate, instantiate } from './template.ts';

const { section: SECTION_HEADER } = FORMATS[32];

/** Bytes of the stub: a call through a pointer, with the CS override, which needs no DS. */
const STUB_LENGTH = 8;

/** The entry that learns of a section of a module from its table. */
const ENTRY = 'carried';

/** A copy of the file with something changed in its section headers. */
function withSections(elf: ElfImage, change: (section: Section) => Partial<Section>): Uint8Array {
  const out = new Uint8Array(elf.bytes);
  for (const section of elf.sections)
    writeStruct(SECTION_HEADER, viewOf(out), elf.header.e_shoff + section.index * SECTION_HEADER.size, {
      ...section,
      ...change(section),
    });
  return out;
}

/**
 * The sites of a module. Their addresses are offsets in the file: as if each
 * section were loaded where it lies there.
 * @throws InputError as `readSites`, or if a record's relocation does not lead to a section
 */
function moduleSites(elf: ElfImage): Site[] {
  const placed = withSections(elf, ({ sh_flags, sh_offset }) =>
    sh_flags & SHF.ALLOC ? { sh_addr: sh_offset } : {},
  );
  const records = findSection(elf, SITE_SECTION);
  if (!records)
    throw new InputError(
      `no sites: section ${SITE_SECTION} is missing`,
      'build the module with CROSS_COMPILE set to the path of bin/previrt-; one that was needs no burning',
    );
  const view = viewOf(placed);
  writeStruct(FORMATS[32].header, view, 0, { ...elf.header, e_type: ET.EXEC });
  const symbols = readSymbols(elf);
  const count = Math.floor(sectionBytes(elf, records).length / SITE_RECORD_SIZE);
  const relocated = new Set<number>();
  for (const { offset, type, symbol } of relocationsOf(elf, records)) {
    const { section, value } = symbols[symbol - 1] ?? { section: 0, value: 0 };
    const target = elf.sections[section];
    const record = Math.floor(offset / SITE_RECORD_SIZE);
    if (record >= count)
      throw new InputError(`section ${SITE_SECTION} has a relocation behind its last record`);
    if (type !== R_386.PC32 || offset % SITE_RECORD_SIZE !== 0 || !target || section === 0)
      throw new InputError(`site record ${record} has a relocation that leads to no section of the module`);
    const at = records.sh_offset + offset;
    view.setInt32(at, target.sh_offset + value + view.getInt32(at, true) - at, true);
    relocated.add(record);
  }
  const missing = [...Array(count).keys()].find((record) => !relocated.has(record));
  if (missing !== undefined) throw new InputError(`site record ${missing} has no relocation`);
  return readSites(parseElf(placed));
}

interface Grown {
  readonly section: Section;
  readonly bytes: Uint8Array;
  /** The relocations that go elsewhere: of the relocation in the file, and of its field in the section. */
  readonly moved: readonly { readonly at: number; readonly offset: number }[];
}

/** A section with stub and table. @param sites its own, by address */
function grow(elf: ElfImage, section: Section, sites: readonly Site[], target: BurnTarget): Grown {
  const stub = section.sh_size;
  const table = stub + STUB_LENGTH;
  const offsetOf = (site: Site): number => site.offset - section.sh_offset;
  const entries = encodePatchTable(
    sites.map((site) => ({
      ...patchEntry(site, target.entryIndex(ENTRY)),
      address: guestVirtual((offsetOf(site) - table) >>> 0),
    })),
  );
  const bytes = new Uint8Array(table + entries.length);
  bytes.set(sectionBytes(elf, section));
  const pointer = callTemplate('absolute', target.entryPointerAddress(ENTRY), STUB_LENGTH);
  bytes.set(instantiate(pointer, guestVirtual(stub)), stub);
  bytes.set(entries, table);
  for (const site of sites) {
    const call = callTemplate('relative', guestVirtual(stub), site.length);
    bytes.set(instantiate(call, guestVirtual(offsetOf(site))), offsetOf(site));
  }

  const originals =
    PATCH_TABLE_HEADER.size + PATCH_ENTRY.fields.find(({ name }) => name === 'original')!.offset;
  const moved = relocationsOf(elf, section).flatMap(({ fileOffset, offset, type }) => {
    const index = sites.findIndex(
      (site) => offset >= offsetOf(site) && offset < offsetOf(site) + site.length,
    );
    const site = sites[index];
    if (!site) return [];
    if (type !== R_386.ABS32)
      throw new InputError(`site record ${site.record} has an operand relative to its own address`);
    const place = table + originals + index * PATCH_ENTRY.size;
    return [{ at: fileOffset, offset: place + offset - offsetOf(site) }];
  });
  return { section, bytes, moved };
}

/** In the file, where nobody relies on it: of a page at most, whatever a section asks for in memory. */
const LARGEST_ALIGNMENT = 4096;

/** The file with sections that have grown: they lie at its end. */
function replaceSections(elf: ElfImage, grown: readonly Grown[]): Uint8Array {
  let end = elf.bytes.length;
  const placed = new Map(
    grown.map(({ section, bytes, moved }) => {
      const alignment = Math.min(Math.max(section.sh_addralign, 1), LARGEST_ALIGNMENT);
      const offset = Math.ceil(end / alignment) * alignment;
      end = offset + bytes.length;
      return [section.index, { offset, bytes, moved }];
    }),
  );
  const out = new Uint8Array(end);
  out.set(
    withSections(elf, ({ index }) => {
      const place = placed.get(index);
      return place ? { sh_offset: place.offset, sh_size: place.bytes.length } : {};
    }),
  );
  const view = viewOf(out);
  for (const { offset, bytes, moved } of placed.values()) {
    out.set(bytes, offset);
    for (const relocation of moved) view.setUint32(relocation.at, relocation.offset, true);
  }
  return out;
}

/**
 * The burned module. It keeps the one before as a copy, so `unburn` takes it back.
 * @throws InputError if it is no annotated i386 module, is burned already, has
 *   code that is copied elsewhere, or domain `cpu` is left out
 */
export function burnModule(image: Uint8Array, choice: Pick<BurnChoice, 'target' | 'domains'>): Uint8Array {
  const target = burnTarget(choice.target);
  if (!choice.domains.includes('cpu'))
    throw new InputError('domain cpu cannot be left out', 'add it to --domains');
  const elf = parseElf(image);
  const before = readBurnInfo(elf);
  if (before) throw new InputError(`already burned for ${before.target}`, 'unburn it first');
  if (elf.class !== target.class || elf.header.e_machine !== EM.I386)
    throw new InputError(`not a module for i386; ${choice.target} takes no others`);
  const all = moduleSites(elf);
  const copied = all.find(({ flags }) => flags & SITE_FLAGS.absolute);
  if (copied)
    throw new InputError(
      `site record ${copied.record} is in code that runs elsewhere than it is loaded (${copied.section})`,
      'let the kernel announce its modules (docs/annotation.md)',
    );
  const burned = all.filter(({ domain }) => choice.domains.includes(domain));
  const grown = codeSections(elf).flatMap((section) => {
    const end = section.sh_offset + section.sh_size;
    const own = burned.filter(({ offset }) => offset >= section.sh_offset && offset < end);
    return own.length > 0 ? [grow(elf, section, own, target)] : [];
  });
  const info = encodeBurnInfo({
    target: choice.target,
    domains: choice.domains,
    keep: 'copy',
    originalSize: image.length,
    originalHeader: headerBytes(elf),
    digest: digestOf(image),
  });
  const table = all.map((site) =>
    patchEntry(site, burned.includes(site) ? target.entryIndex(ENTRY) : PATCH_NOT_BURNED),
  );
  return appendSections(parseElf(replaceSections(elf, grown)), [
    { name: BURN_SECTIONS.info, bytes: info },
    { name: BURN_SECTIONS.patch, bytes: encodePatchTable(table) },
    { name: BURN_SECTIONS.copy, bytes: image },
  ]);
}
