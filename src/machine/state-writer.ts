/**
 * Writes a machine state file (docs/machine-state.md): RAM first, while it is
 * read, behind room for the notes and program headers that describe it, and the
 * ELF header last, so that a file that was not finished is none.
 */

import { ftruncateSync } from 'node:fs';
import { crc32, deflateSync } from 'node:zlib';
import { viewOf, writeStruct } from '../elf/codec.ts';
import type { FileHeader, Segment } from '../elf/image.ts';
import { encodeNote } from '../elf/notes.ts';
import { encodeRecord, type RecordOf } from '../elf/record.ts';
import { ELF32_EHDR, ELF32_PHDR, ELFDATA2LSB, EM, ET, PT } from '../elf/structs.ts';
import { encodeEntries } from '../sites/patch-table.ts';
import { coreNotes } from './core-registers.ts';
import { type Mapping, ramMappings } from './paging.ts';
import { mostRuns, nonZeroRuns, PAGE_SIZE, type Ram, writeFully } from './ram.ts';
import type { Machine } from './state.ts';
import { kernelSiteCount } from './state-blob.ts';
import { checkLimits } from './state-limits.ts';
import {
  CHECKSUMS,
  ENCODINGS,
  NOTE_OWNER,
  NOTE_TYPES,
  RAM_BLOCK,
  SITES_HEAD,
  structureNotes,
} from './state-notes.ts';

export type RamBlock = RecordOf<typeof RAM_BLOCK>;

export interface WriteOptions {
  /** Deflates RAM. Debuggers then see the registers only, and nothing can be mapped. */
  readonly compress?: boolean;
}

/** As many segments as a debugger opens without a thought, and fewer than PN_XNUM. */
const MAX_SEGMENTS = 16_384;

const PF = { X: 1, W: 2, R: 4 } as const;

/** Writes what is not zero. Plain, each byte of RAM has its place; deflated, blocks lie close together. */
function writeRam(file: number, ram: Ram, base: number, compress: boolean): RamBlock[] {
  const blocks: RamBlock[] = [];
  let end = base;
  for (const { start, bytes } of nonZeroRuns(ram)) {
    const deflated = compress ? deflateSync(bytes, { level: 1 }) : bytes;
    const smaller = deflated.length < bytes.length;
    const stored = smaller ? deflated : bytes;
    const offset = compress ? end : base + start;
    writeFully(file, stored, offset);
    end = offset + stored.length;
    blocks.push({
      address: BigInt(start),
      offset: BigInt(offset),
      size: bytes.length,
      stored: stored.length,
      checksum: crc32(stored),
      encoding: smaller ? ENCODINGS.deflate : ENCODINGS.plain,
    });
  }
  return blocks;
}

/** The mappings that get a segment, by address: if there are too many, the kernel's first, and the largest. */
function chosen(mappings: readonly Mapping[]): Mapping[] {
  if (mappings.length <= MAX_SEGMENTS) return [...mappings];
  return [...mappings]
    .sort((a, b) => Number(b.supervisor) - Number(a.supervisor) || b.size - a.size)
    .slice(0, MAX_SEGMENTS)
    .sort((a, b) => a.virtual - b.virtual);
}

const segmentOf = ({ virtual, physical, size, writable }: Mapping, ramOffset: number): Segment => ({
  p_type: PT.LOAD,
  p_offset: ramOffset + physical,
  p_vaddr: virtual,
  p_paddr: physical,
  p_filesz: size,
  p_memsz: size,
  p_flags: PF.R | PF.X | (writable ? PF.W : 0),
  p_align: PAGE_SIZE,
});

const noteSegment = (offset: number, size: number): Segment => ({
  p_type: PT.NOTE,
  p_offset: offset,
  p_vaddr: 0,
  p_paddr: 0,
  p_filesz: size,
  p_memsz: 0,
  p_flags: 0,
  p_align: 4,
});

const coreHeader = (count: number): FileHeader => ({
  e_ident: Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 1, ELFDATA2LSB, 1, ...new Uint8Array(9)]),
  e_type: ET.CORE,
  e_machine: EM.I386,
  e_version: 1,
  e_entry: 0,
  e_phoff: ELF32_EHDR.size,
  e_shoff: 0,
  e_flags: 0,
  e_ehsize: ELF32_EHDR.size,
  e_phentsize: ELF32_PHDR.size,
  e_phnum: count,
  e_shentsize: 0,
  e_shnum: 0,
  e_shstrndx: 0,
});

const ownNote = (type: number, parts: readonly Uint8Array[]): Uint8Array =>
  encodeNote({ owner: NOTE_OWNER, type, bytes: Buffer.concat(parts) });

/** All notes but those of RAM and the checksums. */
function stateNotes({ state, sites }: Omit<Machine, 'ram'>): Uint8Array {
  const site_count = kernelSiteCount(sites);
  const head = encodeRecord(SITES_HEAD, { site_count, module_site_count: sites.length - site_count });
  const structures = [...coreNotes(state), ...structureNotes(state)].map(encodeNote);
  return Buffer.concat([...structures, ownNote(NOTE_TYPES.sites, [head, encodeEntries(sites)])]);
}

const ramNote = (blocks: readonly RamBlock[]): Uint8Array =>
  ownNote(
    NOTE_TYPES.ram,
    blocks.map((block) => encodeRecord(RAM_BLOCK, block)),
  );

const checksumNote = (notes: number, headers: number): Uint8Array =>
  ownNote(NOTE_TYPES.checksums, [encodeRecord(CHECKSUMS, { notes, headers })]);

const CHECKSUM_NOTE_SIZE = checksumNote(0, 0).length;

/**
 * Writes to an open, empty file. What goes wrong with the file is the system's error.
 * @throws InputError for a state that no reader would take
 */
export function writeStateFile(
  file: number,
  machine: Machine,
  { compress = false }: WriteOptions = {},
): void {
  const { state, ram } = machine;
  if (BigInt(ram.size) !== state.ram_size)
    throw new RangeError(`RAM of ${ram.size} bytes, and the state says ${state.ram_size}`);
  checkLimits(state);
  const mappings = compress ? [] : chosen(ramMappings(state.cpu, ram));
  const notesOffset = ELF32_EHDR.size + (mappings.length + 1) * ELF32_PHDR.size;
  const known = stateNotes(machine);
  const room = known.length + ramNote([]).length + mostRuns(ram) * RAM_BLOCK.size + CHECKSUM_NOTE_SIZE;
  const ramOffset = Math.ceil((notesOffset + room) / PAGE_SIZE) * PAGE_SIZE;

  const notes = Buffer.concat([known, ramNote(writeRam(file, ram, ramOffset, compress))]);
  // Pages of zeros at its end too: a segment that the file does not hold would be one cut off.
  if (!compress) ftruncateSync(file, ramOffset + ram.size);
  const segments = [
    noteSegment(notesOffset, notes.length + CHECKSUM_NOTE_SIZE),
    ...mappings.map((mapping) => segmentOf(mapping, ramOffset)),
  ];
  const header = new Uint8Array(ELF32_EHDR.size);
  writeStruct(ELF32_EHDR, viewOf(header), 0, coreHeader(segments.length));
  const table = new Uint8Array(segments.length * ELF32_PHDR.size);
  segments.forEach((segment, index) => {
    writeStruct(ELF32_PHDR, viewOf(table), index * ELF32_PHDR.size, segment);
  });
  writeFully(file, notes, notesOffset);
  writeFully(file, checksumNote(crc32(notes), crc32(table, crc32(header))), notesOffset + notes.length);
  writeFully(file, table, ELF32_EHDR.size);
  writeFully(file, header, 0);
}
