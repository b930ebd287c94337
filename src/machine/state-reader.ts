/**
 * Reads a machine state file (docs/machine-state.md), which may be a stranger's:
 * nothing is held that its own size does not bound, and RAM is read when it is asked for.
 */

import { fstatSync, readSync } from 'node:fs';
import { crc32, inflateSync } from 'node:zlib';
import { readStruct, viewOf } from '../elf/codec.ts';
import type { FileHeader, Segment } from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';
import { decodeNotes, type PlacedNote } from '../elf/notes.ts';
import { decodeRecord } from '../elf/record.ts';
import { ELF32_EHDR, ELF32_PHDR, ELFDATA2LSB, EM, ET, PT } from '../elf/structs.ts';
import { type GuestPhysical, guestPhysical } from '../x86/address.ts';
import { BLOCK_SIZE, checkRange, PAGE_SIZE, type Ram, readFully } from './ram.ts';
import type { Machine, MachineState } from './state.ts';
import { decodeSites } from './state-blob.ts';
import { checkLimits } from './state-limits.ts';
import {
  CHECKSUMS,
  DEVICE_NOTES,
  decodeNote,
  ENCODINGS,
  FORMAT_VERSION,
  NOTE_OWNER,
  NOTE_TYPES,
  RAM_BLOCK,
  SITES_HEAD,
  STATE_HEADER,
  STATE_NOTES,
  type StructureNote,
} from './state-notes.ts';
import type { RamBlock } from './state-writer.ts';
import { MAX_MEMORY, VIRTUAL_PC_VERSION } from './virtual-pc.ts';

/** Bytes of all notes: room for the map of 3 GiB of which every second page is zero, and for a million sites. */
const MAX_NOTES = 2 ** 26;

/** A block of RAM in the file. */
export interface StoredBlock extends Omit<RamBlock, 'address' | 'offset'> {
  readonly start: GuestPhysical;
  readonly offset: number;
}

export interface StateFile extends Machine {
  readonly formatVersion: number;
  /** Where RAM lies in the file, ascending; what is in none is zero. A plain one can be mapped. */
  readonly blocks: readonly StoredBlock[];
}

const isCore = ({ e_ident, e_type, e_machine }: FileHeader): boolean =>
  [0x7f, 0x45, 0x4c, 0x46, 1, ELFDATA2LSB].every((byte, index) => e_ident[index] === byte) &&
  e_type === ET.CORE &&
  e_machine === EM.I386;

/** Whether an open file begins as a machine state does; the rest of it may be anything. */
export function isStateFile(file: number): boolean {
  const bytes = new Uint8Array(ELF32_EHDR.size);
  return (
    readSync(file, bytes, 0, bytes.length, 0) === bytes.length &&
    isCore(readStruct<FileHeader>(ELF32_EHDR, viewOf(bytes), 0, 'the ELF header'))
  );
}

interface Core {
  readonly notes: Uint8Array;
  /** CRC-32 of ELF header and program headers. */
  readonly headers: number;
}

function readCore(file: number, fileSize: number): Core {
  const part = (offset: number, size: number, what: string): Uint8Array => {
    if (offset + size > fileSize)
      throw new InputError(
        `truncated: ${what} should lie at 0x${offset.toString(16)}+0x${size.toString(16)}, the file ends at 0x${fileSize.toString(16)}`,
      );
    const bytes = new Uint8Array(size);
    readFully(file, bytes, offset, what);
    return bytes;
  };
  if (!isStateFile(file))
    throw new InputError('not a machine state file', 'give one that `previrt snapshot` has written');
  const headerBytes = part(0, ELF32_EHDR.size, 'the ELF header');
  const header = readStruct<FileHeader>(ELF32_EHDR, viewOf(headerBytes), 0, 'the ELF header');
  if (header.e_phentsize !== ELF32_PHDR.size)
    throw new InputError(`program headers of ${header.e_phentsize} bytes, not ${ELF32_PHDR.size}`);
  const table = part(header.e_phoff, header.e_phnum * ELF32_PHDR.size, 'the program header table');
  const segments = Array.from({ length: header.e_phnum }, (_, index) =>
    readStruct<Segment>(ELF32_PHDR, viewOf(table), index * ELF32_PHDR.size, `program header ${index}`),
  );
  const [notes, ...more] = segments.filter(({ p_type }) => p_type === PT.NOTE);
  if (!notes || more.length) throw new InputError('there should be one note segment');
  const end = Math.max(...segments.map(({ p_offset, p_filesz }) => p_offset + p_filesz));
  if (end > fileSize)
    throw new InputError(
      `truncated: its segments end at 0x${end.toString(16)}, the file at 0x${fileSize.toString(16)}`,
    );
  if (notes.p_filesz > MAX_NOTES)
    throw new InputError(`notes of ${notes.p_filesz} bytes, more than ${MAX_NOTES}`);
  return {
    notes: part(notes.p_offset, notes.p_filesz, 'the note segment'),
    headers: crc32(table, crc32(headerBytes)),
  };
}

/** previrt's notes by type. @throws InputError for one that is there twice or is not known */
function byType(notes: readonly PlacedNote[]): Map<number, PlacedNote> {
  const known = [...Object.values(NOTE_TYPES), ...[...STATE_NOTES, ...DEVICE_NOTES].map(({ type }) => type)];
  const found = new Map<number, PlacedNote>();
  for (const note of notes) {
    if (note.owner !== NOTE_OWNER) continue;
    if (!known.includes(note.type)) throw new InputError(`previrt's note of type ${note.type} is not known`);
    if (found.has(note.type)) throw new InputError(`previrt's note of type ${note.type} is there twice`);
    found.set(note.type, note);
  }
  return found;
}

/** The version is looked at before anything else: a newer file may differ in all the rest. */
function readHeader(notes: readonly PlacedNote[]) {
  const note = notes.find(({ owner, type }) => owner === NOTE_OWNER && type === NOTE_TYPES.header);
  if (!note) throw new InputError('not a machine state file: note header is missing');
  const header = decodeNote(STATE_HEADER, note.bytes.subarray(0, STATE_HEADER.size), 'header', false);
  if (header.format_version > FORMAT_VERSION)
    throw new InputError(
      `machine state format version ${header.format_version} is newer than this previrt's, ${FORMAT_VERSION}`,
      'take a newer previrt',
    );
  if (header.format_version === 0) throw new InputError('note header: format version 0');
  if (header.pc_version !== VIRTUAL_PC_VERSION)
    throw new InputError(
      `note header: virtual PC version ${header.pc_version}, this previrt has ${VIRTUAL_PC_VERSION}`,
    );
  const { ram_size } = header;
  if (ram_size === 0n || ram_size > MAX_MEMORY || ram_size % BigInt(PAGE_SIZE))
    throw new InputError(`note header: RAM of ${ram_size} bytes`);
  if (note.bytes.length !== STATE_HEADER.size)
    throw new InputError(`note header has ${note.bytes.length} bytes, not ${STATE_HEADER.size}`);
  return header;
}

function checkSums(core: Core, notes: ReadonlyMap<number, PlacedNote>): void {
  const note = notes.get(NOTE_TYPES.checksums);
  if (!note) throw new InputError('note checksums is missing');
  const sums = decodeNote(CHECKSUMS, note.bytes, 'checksums', false);
  if (note.bytes.byteOffset + note.bytes.length !== core.notes.byteOffset + core.notes.length)
    throw new InputError('note checksums is not the last');
  if (sums.notes !== crc32(core.notes.subarray(0, note.offset)))
    throw new InputError('the notes do not have their checksum: the file is damaged');
  if (sums.headers !== core.headers)
    throw new InputError('the ELF headers do not have their checksum: the file is damaged');
}

const blockName = (start: number): string => `RAM block at 0x${start.toString(16).padStart(8, '0')}`;

function readBlocks(note: PlacedNote | undefined, ramSize: number, fileSize: number): StoredBlock[] {
  if (!note) throw new InputError('note ram is missing');
  const { bytes } = note;
  if (bytes.length % RAM_BLOCK.size) throw new InputError(`note ram has ${bytes.length} bytes`);
  const blocks: StoredBlock[] = [];
  let end = 0;
  let fileEnd = ELF32_EHDR.size;
  for (let at = 0; at < bytes.length; at += RAM_BLOCK.size) {
    const { address, offset: position, ...block } = decodeRecord(RAM_BLOCK, bytes, at, 'note ram');
    const [start, offset] = [Number(address), Number(position)];
    const wrong = (what: string): never => {
      throw new InputError(`${blockName(start)}: ${what}`);
    };
    if (start % PAGE_SIZE || block.size % PAGE_SIZE || block.size === 0 || block.size > BLOCK_SIZE)
      wrong(`${block.size} bytes are not whole pages or too many`);
    if (start < end) wrong('overlaps the one before it, or is out of order');
    if (start + block.size > ramSize) wrong('lies beyond the RAM');
    if (offset < fileEnd) wrong('overlaps another in the file, or is out of order there');
    if (offset + block.stored > fileSize) wrong('truncated: lies beyond the end of the file');
    const fits =
      block.encoding === ENCODINGS.plain
        ? block.stored === block.size
        : block.encoding === ENCODINGS.deflate && block.stored < block.size;
    if (!fits) wrong(`${block.stored} bytes with encoding ${block.encoding}`);
    end = start + block.size;
    fileEnd = offset + block.stored;
    blocks.push({ start: guestPhysical(start), offset, ...block });
  }
  return blocks;
}

/** Fills `into` with a block as the file has it, checked. */
function readStored(file: number, { start, offset, checksum }: StoredBlock, into: Uint8Array): void {
  const what = blockName(start);
  readFully(file, into, offset, what);
  if (crc32(into) !== checksum)
    throw new InputError(`${what} does not have its checksum: the file is damaged`);
}

/** A block's RAM. */
function readBlock(file: number, block: StoredBlock): Uint8Array {
  const bytes = new Uint8Array(block.stored);
  readStored(file, block, bytes);
  return block.encoding === ENCODINGS.plain ? bytes : inflate(bytes, block.size, blockName(block.start));
}

/** @throws InputError unless exactly `size` bytes come of it; no more are made. */
function inflate(bytes: Uint8Array, size: number, what: string): Uint8Array {
  try {
    const ram = inflateSync(bytes, { maxOutputLength: size });
    if (ram.length === size) return ram;
  } catch {
    // Told below.
  }
  throw new InputError(`${what} cannot be inflated to ${size} bytes: the file is damaged`);
}

/** RAM from the file. Each block's checksum is compared when it is first read. */
function storedRam(file: number, size: number, blocks: readonly StoredBlock[]): Ram {
  const checked = new Set<StoredBlock>();
  let kept: { readonly block: StoredBlock; readonly bytes: Uint8Array } | undefined;
  /** Fills `into` from `at` in a block. */
  const readFrom = (block: StoredBlock, at: number, into: Uint8Array): void => {
    const plain = block.encoding === ENCODINGS.plain;
    if (kept?.block === block) into.set(kept.bytes.subarray(at, at + into.length));
    else if (plain && checked.has(block)) readFully(file, into, block.offset + at, blockName(block.start));
    else if (plain && into.length === block.size) readStored(file, block, into);
    else {
      kept = { block, bytes: readBlock(file, block) };
      into.set(kept.bytes.subarray(at, at + into.length));
    }
    checked.add(block);
  };
  return {
    size,
    extents: blocks,
    file: blocks.every(({ encoding }) => encoding === ENCODINGS.plain)
      ? { descriptor: file, pieces: blocks }
      : undefined,
    read(start, into) {
      checkRange(this, start, into.length);
      into.fill(0);
      const end = start + into.length;
      for (let index = firstAfter(blocks, start); index < blocks.length; index++) {
        const block = blocks[index]!;
        if (block.start >= end) break;
        const from = Math.max(start, block.start);
        const to = Math.min(end, block.start + block.size);
        readFrom(block, from - block.start, into.subarray(from - start, to - start));
      }
    },
  };
}

/** Index of the first block that ends after an address. */
function firstAfter(blocks: readonly StoredBlock[], address: number): number {
  let low = 0;
  let high = blocks.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const { start, size } = blocks[middle]!;
    if (start + size > address) high = middle;
    else low = middle + 1;
  }
  return low;
}

/**
 * Opens a machine state in a file, which has to stay open as long as its RAM is read.
 * Everything but RAM is checked.
 * @throws InputError if it is none, is damaged, or is newer than this previrt
 */
export function readStateFile(file: number): StateFile {
  const { size: fileSize } = fstatSync(file);
  const core = readCore(file, fileSize);
  const all = decodeNotes(core.notes);
  const { format_version, ...header } = readHeader(all);
  const notes = byType(all);
  checkSums(core, notes);

  const older = format_version < FORMAT_VERSION;
  const decode = ({ type, name, layout, put }: StructureNote) => {
    const note = notes.get(type);
    if (!note && !older) throw new InputError(`note ${name} is missing`);
    return put(decodeNote(layout, note?.bytes ?? new Uint8Array(0), name, older));
  };
  const state = {
    ...header,
    ...Object.assign({}, ...STATE_NOTES.map(decode)),
    devices: Object.assign({}, ...DEVICE_NOTES.map(decode)),
  } as MachineState;
  checkLimits(state);

  const sitesNote = notes.get(NOTE_TYPES.sites)?.bytes ?? new Uint8Array(0);
  const { site_count, module_site_count } = decodeRecord(SITES_HEAD, sitesNote, 0, 'note sites');
  const sites = decodeSites(sitesNote.subarray(SITES_HEAD.size), site_count, module_site_count);
  const ramSize = Number(header.ram_size);
  const blocks = readBlocks(notes.get(NOTE_TYPES.ram), ramSize, fileSize);
  return { formatVersion: format_version, state, sites, ram: storedRam(file, ramSize, blocks), blocks };
}

/** Reads all RAM to compare checksums. @throws InputError that names the first block that is damaged. */
export function verifyRam({ ram }: StateFile): void {
  const buffer = new Uint8Array(BLOCK_SIZE);
  for (const { start, size } of ram.extents) ram.read(start, buffer.subarray(0, size));
}
