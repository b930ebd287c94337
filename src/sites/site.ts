/**
 * Sites of a linked image, from their records (x86/site-record.ts), each
 * checked against the code it points at: whoever changes bytes of a kernel
 * must know that they are the bytes meant.
 */

import { Decoder, DecoderOptions, Instruction, Mnemonic } from 'iced-x86';
import { viewOf } from '../elf/codec.ts';
import {
  codeSections,
  type ElfImage,
  findSection,
  formatAddress,
  type Section,
  sectionBytes,
} from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';
import { type ElfClass, ET } from '../elf/structs.ts';
import { type FunctionMap, functionMap, readSymbols } from '../elf/symbols.ts';
import { type FileOffset, fileOffset, type GuestVirtual, guestVirtual } from '../x86/address.ts';
import { DOMAINS, type DomainName, SITE_KINDS, type SiteKindName } from '../x86/site-kinds.ts';
import {
  MAX_INSTRUCTION_LENGTH,
  SITE_FLAGS,
  SITE_RECORD_SIZE,
  SITE_RECORD_VERSION,
  SITE_SECTION,
  SLOT_LENGTH,
  SLOT_LENGTH_ABSOLUTE,
} from '../x86/site-record.ts';
import { isOfKind, kindById, type Operation, operationOf } from './instructions.ts';

export interface Site {
  /** Number of the record in its section, from 0. */
  readonly record: number;
  /** First byte of the slot. */
  readonly address: GuestVirtual;
  /** The same byte in the file. */
  readonly offset: FileOffset;
  /** Bytes of the slot. */
  readonly length: number;
  /** Bytes in front of the original instruction. */
  readonly widening: number;
  readonly domain: DomainName;
  readonly kind: SiteKindName;
  /** SITE_FLAGS. */
  readonly flags: number;
  /** The slot as the assembler left it. */
  readonly original: Uint8Array;
  readonly operation: Operation;
  readonly section: string;
  /** Function around it, '' if no symbol tells. */
  readonly function: string;
}

const DOMAIN_BY_ID = new Map<number, DomainName>(
  Object.entries(DOMAINS).map(([name, id]) => [id, name as DomainName]),
);
/** CS, SS, DS, ES, FS, GS overrides (SDM vol. 2A 2.1.1). */
const SEGMENT_PREFIXES = new Set([0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65]);
const KNOWN_FLAGS = Object.values(SITE_FLAGS).reduce((all, flag) => all | flag, 0);

interface CodeRange {
  readonly section: Section;
  readonly decoder: Decoder;
}

/**
 * The sites of a linked file, by address.
 * @throws InputError if it has none, or a record is not one of this version or
 *   does not fit the code; the message names the record and its address.
 */
export function readSites(elf: ElfImage): Site[] {
  if (elf.header.e_type === ET.REL)
    throw new InputError('an object file: its sites have no addresses yet', 'give the linked kernel');
  const section = findSection(elf, SITE_SECTION);
  if (!section)
    throw new InputError(
      `no sites: section ${SITE_SECTION} is missing`,
      'build the kernel with CROSS_COMPILE set to the path of bin/previrt-, or burn it with --from-binary',
    );
  const records = sectionBytes(elf, section);
  if (records.length % SITE_RECORD_SIZE !== 0)
    throw new InputError(
      `section ${SITE_SECTION} has ${records.length} bytes, no multiple of a record's ${SITE_RECORD_SIZE}`,
    );
  if (records.length === 0) throw new InputError(`no sites: section ${SITE_SECTION} has none in the file`);

  const instruction = new Instruction();
  const ranges = codeSections(elf).map(
    (code): CodeRange => ({
      section: code,
      decoder: new Decoder(elf.class, sectionBytes(elf, code), DecoderOptions.None),
    }),
  );
  try {
    const functions = functionMap(elf, readSymbols(elf));
    const view = viewOf(records);
    const sites: Site[] = [];
    for (let record = 0; record < records.length / SITE_RECORD_SIZE; record++)
      sites.push(readRecord(elf, section, view, record, ranges, instruction, functions));
    sites.sort((a, b) => a.address - b.address);
    sites.forEach((site, index) => {
      const before = sites[index - 1];
      if (before && before.address + before.length > site.address)
        throw new InputError(
          `site record ${site.record} (${formatAddress(site.address)}) overlaps record ${before.record} (${formatAddress(before.address)})`,
        );
    });
    return sites;
  } finally {
    for (const { decoder } of ranges) decoder.free();
    instruction.free();
  }
}

/** A record as it stands there. */
export interface SiteRecord {
  readonly distance: number;
  readonly length: number;
  readonly widening: number;
  /** DOMAINS and SITE_KINDS by number. */
  readonly domain: number;
  readonly kind: number;
  readonly flags: number;
  readonly version: number;
}

export const recordAt = (view: DataView, at: number): SiteRecord => ({
  distance: view.getInt32(at, true),
  length: view.getUint8(at + 4),
  widening: view.getUint8(at + 5),
  domain: view.getUint8(at + 6),
  kind: view.getUint8(at + 7),
  flags: view.getUint16(at + 8, true),
  version: view.getUint16(at + 10, true),
});

/** What a record says, wherever it leads; or what is wrong with it. */
export function meaningOf(
  { length, domain: domainId, kind: kindId, flags, version }: SiteRecord,
  width: ElfClass,
): Pick<Site, 'domain' | 'kind'> | string {
  if (version !== SITE_RECORD_VERSION) return `has version ${version}, not ${SITE_RECORD_VERSION}`;
  const domain = DOMAIN_BY_ID.get(domainId);
  if (!domain) return `has the unknown domain ${domainId}`;
  const kind = kindById(kindId);
  if (!kind) return `has the unknown kind ${kindId}`;
  if (SITE_KINDS[kind].domain !== domain) return `says domain ${domain}, which kind ${kind} is not in`;
  if ((flags & ~KNOWN_FLAGS) !== 0) return `has unknown flags 0x${(flags & ~KNOWN_FLAGS).toString(16)}`;
  if (((flags & SITE_FLAGS.long) !== 0) !== (width === 64))
    return `is for ${width === 64 ? 32 : 64}-bit code in a ${width}-bit file`;
  const least = flags & SITE_FLAGS.absolute ? SLOT_LENGTH_ABSOLUTE : SLOT_LENGTH;
  if (length < least || length > MAX_INSTRUCTION_LENGTH)
    return `has a slot of ${length} bytes; ${least} to ${MAX_INSTRUCTION_LENGTH} are possible`;
  return { domain, kind };
}

function readRecord(
  elf: ElfImage,
  section: Section,
  view: DataView,
  record: number,
  ranges: readonly CodeRange[],
  instruction: Instruction,
  functions: FunctionMap,
): Site {
  const at = record * SITE_RECORD_SIZE;
  const fields = recordAt(view, at);
  const { length, widening, flags } = fields;
  const sum = section.sh_addr + at + fields.distance;
  const address = elf.class === 32 ? sum >>> 0 : sum;
  const fail = (problem: string): never => {
    throw new InputError(`site record ${record} (${formatAddress(address)}) ${problem}`);
  };

  const meaning = meaningOf(fields, elf.class);
  if (typeof meaning === 'string') return fail(meaning);
  const { domain, kind } = meaning;

  const range =
    ranges.find(
      ({ section: { sh_addr, sh_size } }) => address >= sh_addr && address + length <= sh_addr + sh_size,
    ) ?? fail('points outside the code');
  const position = address - range.section.sh_addr;
  const original = sectionBytes(elf, range.section).slice(position, position + length);
  const operation =
    decodeSlot(range.decoder, position, original, widening, flags, kind, instruction) ??
    fail(`does not point at a ${kind} in a slot of ${length} bytes (${hex(original)})`);

  return {
    record,
    address: guestVirtual(address),
    offset: fileOffset(range.section.sh_offset + position),
    length,
    widening,
    domain,
    kind,
    flags,
    original,
    operation,
    section: range.section.name,
    function: functions.at(address)?.name ?? '',
  };
}

/** What the slot does, or undefined if it is not exactly the recorded instruction. */
export function decodeSlot(
  decoder: Decoder,
  position: number,
  slot: Uint8Array,
  widening: number,
  flags: number,
  kind: SiteKindName,
  instruction: Instruction,
): Operation | undefined {
  if (widening >= slot.length) return undefined;
  decoder.position = position;
  decoder.decodeOut(instruction);
  if (flags & SITE_FLAGS.interiorBoundary) {
    while (instruction.mnemonic === Mnemonic.Nop && decoder.position <= position + widening)
      decoder.decodeOut(instruction);
  } else if (!slot.subarray(0, widening).every((byte) => SEGMENT_PREFIXES.has(byte))) return undefined;
  if (decoder.position !== position + slot.length || !isOfKind(instruction, kind)) return undefined;
  return operationOf(instruction);
}

const hex = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
