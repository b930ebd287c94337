/**
 * QEMU's migration stream, read and written whole: a header, RAM in pages by
 * block, a section for each device, and the description of those (QEMU's
 * docs/devel/migration and its migration/ folder; version 3 of the file, as of
 * QEMU 7.2). Integers are big-endian.
 *
 * What is read is written back byte for byte.
 */

import { InputError } from '../../elf/input-error.ts';
import { BLOCK_SIZE } from '../../machine/ram.ts';
import { MAX_MEMORY } from '../../machine/virtual-pc.ts';
import { type Description, layoutOf, parseDescription, type SectionLayout } from './migration-description.ts';

const MAGIC = 0x5145_564d;
const VERSION = 3;
export const PAGE_SIZE = 4096;

/** What comes next. */
const MARK = {
  end: 0,
  start: 1,
  part: 2,
  last: 3,
  full: 4,
  subsection: 5,
  description: 6,
  configuration: 7,
  footer: 0x7e,
} as const;

/** In the low bits of an address in the RAM section. */
const RAM_FLAG = { zero: 0x02, sizes: 0x04, page: 0x08, end: 0x10, sameBlock: 0x20 } as const;

/** Bytes of RAM and of the firmware's blocks together. */
const MAX_RAM = MAX_MEMORY + 2 ** 28;
/** More blocks, sections and text than any PC has: reading takes no longer than these allow. */
const MAX_BLOCKS = 64;
const MAX_SECTIONS = 256;
const MAX_DESCRIPTION = 2 ** 20;
/** Bytes at the stream's end that are searched for it: what Node says of places beyond 2 GiB is wrong. */
const MAX_SEARCHED = 2 ** 30;

export interface RamBlock {
  readonly name: string;
  /** Bytes, whole pages. */
  readonly size: number;
}

/** One page of a block, or that it is zero. */
export interface RamPage {
  readonly block: string;
  /** In the block, in bytes. */
  readonly offset: number;
  /** Not there: it is zero. A view of what was read. */
  readonly bytes: Uint8Array | undefined;
  /** Written without the block's name, which is that of the page before. */
  readonly sameBlock: boolean;
}

/** RAM comes in portions: the sizes of its blocks, then pages, a later one replacing an earlier one. */
export interface RamPortion {
  readonly mark: typeof MARK.start | typeof MARK.part | typeof MARK.last;
  readonly pages: Iterable<RamPage>;
}

/** A device. */
export interface Section {
  readonly name: string;
  readonly id: number;
  readonly instance: number;
  readonly version: number;
  readonly bytes: Uint8Array;
  readonly layout: SectionLayout;
}

export interface MigrationStream {
  /** QEMU's name for the machine and its version: `pc-i440fx-7.2`. */
  readonly machine: string;
  /** Number and version of the RAM section. */
  readonly ram: { readonly id: number; readonly instance: number; readonly version: number };
  readonly blocks: readonly RamBlock[];
  readonly portions: readonly RamPortion[];
  readonly sections: readonly Section[];
  readonly description: Description;
  /** The text that the description was read from. */
  readonly descriptionText: string;
}

/** Takes bytes off the front; `where` is what an error names. */
class Cursor {
  readonly #bytes: Buffer;
  #at = 0;
  where = 'header';

  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  }

  wrong(what: string): InputError {
    return new InputError(`QEMU stream: ${this.where}: ${what}`);
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  take(size: number): Buffer {
    if (size > this.left) throw new InputError(`QEMU stream: ${this.where} is truncated`);
    this.#at += size;
    return this.#bytes.subarray(this.#at - size, this.#at);
  }

  u8(): number {
    return this.take(1).readUInt8();
  }

  u32(): number {
    return this.take(4).readUInt32BE();
  }

  /** @throws InputError if it is no exact number */
  u64(): number {
    const value = this.take(8).readBigUInt64BE();
    if (value > Number.MAX_SAFE_INTEGER) throw this.wrong('an address beyond the machine');
    return Number(value);
  }

  /** A name behind its length. */
  name(): string {
    return this.take(this.u8()).toString('latin1');
  }
}

function readSizes(from: Cursor, total: number): RamBlock[] {
  if (total > MAX_RAM) throw from.wrong(`${total} bytes of RAM are more than the virtual PC has`);
  const blocks: RamBlock[] = [];
  let rest = total;
  while (rest > 0) {
    const name = from.name();
    const size = from.u64();
    if (size === 0 || size % PAGE_SIZE !== 0 || size > rest)
      throw from.wrong(`block ${name} has ${size} bytes`);
    if (blocks.length >= MAX_BLOCKS) throw from.wrong('too many blocks');
    if (blocks.some((block) => block.name === name)) throw from.wrong(`block ${name} comes twice`);
    rest -= size;
    blocks.push({ name, size });
  }
  return blocks;
}

/** Reads one portion of the RAM section; what it says of blocks is added to `blocks`. */
function readPages(from: Cursor, blocks: RamBlock[], before: string | undefined): RamPage[] {
  const pages: RamPage[] = [];
  let current = before;
  for (;;) {
    const word = from.u64();
    const flags = word % PAGE_SIZE;
    const offset = word - flags;
    const sameBlock = (flags & RAM_FLAG.sameBlock) !== 0;
    const kind = flags & ~RAM_FLAG.sameBlock;
    if (kind === RAM_FLAG.end) return pages;
    if (kind === RAM_FLAG.sizes) {
      if (blocks.length > 0) throw from.wrong('the sizes of its blocks come twice');
      blocks.push(...readSizes(from, offset));
      continue;
    }
    if (kind !== RAM_FLAG.zero && kind !== RAM_FLAG.page)
      throw from.wrong(`a page with unknown flags 0x${flags.toString(16)}`);
    if (!sameBlock) current = from.name();
    const block = blocks.find(({ name }) => name === current);
    if (!block) throw from.wrong(`a page of block ${current ?? 'without a name'}, which there is not`);
    if (offset >= block.size) throw from.wrong(`a page beyond the end of block ${block.name}`);
    if (kind === RAM_FLAG.zero && from.u8() !== 0) throw from.wrong('a page filled with other than zero');
    const bytes = kind === RAM_FLAG.page ? from.take(PAGE_SIZE) : undefined;
    pages.push({ block: block.name, offset, bytes, sameBlock });
  }
}

interface SectionHeader {
  readonly id: number;
  readonly name: string;
  readonly instance: number;
  readonly version: number;
}

/** The name of a section may be any bytes; errors show it. */
function readSectionHeader(from: Cursor): SectionHeader {
  const id = from.u32();
  const name = from.name();
  from.where = `section ${name}`;
  return { id, name, instance: from.u32(), version: from.u32() };
}

function readFooter(from: Cursor, id: number): void {
  if (from.u8() !== MARK.footer || from.u32() !== id) throw from.wrong('it does not end where it should');
}

const DESCRIPTION_START = Buffer.from('{"page_size"');

/**
 * The description comes last, but the sections cannot be told apart without it.
 * @throws InputError if there is none
 */
function findDescription(bytes: Uint8Array): string {
  const length = Math.min(bytes.length, MAX_SEARCHED);
  const end = Buffer.from(bytes.buffer, bytes.byteOffset + bytes.length - length, length);
  const start = end.lastIndexOf(DESCRIPTION_START);
  if (start < 5 || end[start - 5] !== MARK.description)
    throw new InputError('QEMU stream: there is no description at its end', 'it may be truncated');
  const size = end.readUInt32BE(start - 4);
  if (size > MAX_DESCRIPTION) throw new InputError(`QEMU stream: description has ${size} bytes`);
  if (size > end.length - start) throw new InputError('QEMU stream: description is truncated');
  return end.subarray(start, start + size).toString('utf8');
}

/**
 * Reads a stream; pages and sections are views of `bytes`.
 * @throws InputError naming the section if it is malformed or truncated
 */
export function readStream(bytes: Uint8Array): MigrationStream {
  const from = new Cursor(bytes);
  if (from.u32() !== MAGIC) throw from.wrong("this is not QEMU's migration stream");
  const version = from.u32();
  if (version !== VERSION) throw from.wrong(`version ${version}, not ${VERSION}`);
  if (from.u8() !== MARK.configuration) throw from.wrong('no machine is named');
  const machine = from.take(from.u32()).toString('latin1');

  const descriptionText = findDescription(bytes);
  const description = parseDescription(descriptionText);
  const blocks: RamBlock[] = [];
  const portions: RamPortion[] = [];
  const sections: Section[] = [];
  let ram: SectionHeader | undefined;
  let lastBlock: string | undefined;

  const readRam = (mark: RamPortion['mark'], id: number): void => {
    if (id !== ram?.id) throw from.wrong('a part of a section that never started');
    from.where = 'section ram';
    const pages = readPages(from, blocks, lastBlock);
    lastBlock = pages.at(-1)?.block ?? lastBlock;
    portions.push({ mark, pages });
    readFooter(from, id);
  };
  const readDevice = (): void => {
    const header = readSectionHeader(from);
    if (sections.length >= MAX_SECTIONS) throw from.wrong('too many sections');
    const device = description.devices[sections.length];
    if (device?.name !== header.name || device.instance_id !== header.instance)
      throw from.wrong('the description does not have it here');
    if (device.version !== header.version) throw from.wrong('the description has another version');
    const layout = layoutOf(device, from.left);
    sections.push({ ...header, layout, bytes: from.take(layout.size) });
    readFooter(from, header.id);
  };
  for (;;) {
    from.where =
      sections.length > 0 ? `what follows section ${sections.at(-1)!.name}` : 'what follows the header';
    const mark = from.u8();
    if (mark === MARK.end) break;
    if (mark === MARK.start) {
      const header = readSectionHeader(from);
      if (header.name !== 'ram' || ram) throw from.wrong('nothing but RAM comes in parts');
      ram = header;
      readRam(mark, header.id);
    } else if (mark === MARK.part || mark === MARK.last) readRam(mark, from.u32());
    else if (mark === MARK.full) readDevice();
    else throw from.wrong(`unknown mark 0x${mark.toString(16)}`);
  }
  from.where = 'description';
  if (!ram || blocks.length === 0) throw from.wrong('there is no RAM');
  if (sections.length !== description.devices.length)
    throw from.wrong(`it has ${description.devices.length} sections, the stream ${sections.length}`);
  if (from.u8() !== MARK.description || from.take(from.u32()).toString('utf8') !== descriptionText)
    throw from.wrong('it is not where it should be');
  if (from.left > 0) throw from.wrong(`${from.left} bytes follow`);
  const { id, instance, version: ramVersion } = ram;
  return {
    machine,
    ram: { id, instance, version: ramVersion },
    blocks,
    portions,
    sections,
    description,
    descriptionText,
  };
}

/* --- Writing --- */

const u8 = (value: number): Buffer => Buffer.from([value]);
const u32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};
const u64 = (value: number): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
};
const name = (text: string): Buffer => Buffer.concat([u8(text.length), Buffer.from(text, 'latin1')]);

/** A subsection behind the fields of a section. */
export const encodeSubsection = (subsection: string, version: number, contents: Uint8Array): Buffer =>
  Buffer.concat([u8(MARK.subsection), name(subsection), u32(version), contents]);

function* encodePage({ block, offset, bytes, sameBlock }: RamPage): Generator<Uint8Array> {
  yield u64(offset + flagsOf(bytes, sameBlock));
  if (!sameBlock) yield name(block);
  yield bytes ?? u8(0);
}

const flagsOf = (bytes: Uint8Array | undefined, sameBlock: boolean): number =>
  (bytes ? RAM_FLAG.page : RAM_FLAG.zero) | (sameBlock ? RAM_FLAG.sameBlock : 0);

function* encodeSizes(blocks: readonly RamBlock[]): Generator<Uint8Array> {
  yield u64(blocks.reduce((sum, { size }) => sum + size, 0) + RAM_FLAG.sizes);
  for (const block of blocks) {
    yield name(block.name);
    yield u64(block.size);
  }
}

const encodeHeader = (section: SectionHeader): Buffer =>
  Buffer.concat([u32(section.id), name(section.name), u32(section.instance), u32(section.version)]);

const encodeFooter = (id: number): Buffer => Buffer.concat([u8(MARK.footer), u32(id)]);

/** The same bytes in blocks of this size, and a last one. */
function* inBlocks(pieces: Iterable<Uint8Array>, size: number): Generator<Uint8Array> {
  let block = Buffer.allocUnsafe(size);
  let used = 0;
  for (const piece of pieces)
    for (let done = 0; done < piece.length; ) {
      const part = piece.subarray(done, done + size - used);
      block.set(part, used);
      done += part.length;
      used += part.length;
      if (used < size) continue;
      yield block;
      block = Buffer.allocUnsafe(size);
      used = 0;
    }
  if (used > 0) yield block.subarray(0, used);
}

/** The stream in blocks, in order. Its pages need not be valid any longer than until the next is asked for. */
export const encodeStream = (stream: MigrationStream): Iterable<Uint8Array> =>
  inBlocks(encodePieces(stream), BLOCK_SIZE);

function* encodePieces(stream: MigrationStream): Generator<Uint8Array> {
  const { machine, ram, blocks, portions, sections, descriptionText } = stream;
  yield Buffer.concat([u32(MAGIC), u32(VERSION), u8(MARK.configuration), u32(machine.length)]);
  yield Buffer.from(machine, 'latin1');
  for (const { mark, pages } of portions) {
    yield u8(mark);
    yield mark === MARK.start ? encodeHeader({ ...ram, name: 'ram' }) : u32(ram.id);
    if (mark === MARK.start) yield* encodeSizes(blocks);
    for (const page of pages) yield* encodePage(page);
    yield u64(RAM_FLAG.end);
    yield encodeFooter(ram.id);
  }
  for (const section of sections) {
    yield u8(MARK.full);
    yield encodeHeader(section);
    yield section.bytes;
    yield encodeFooter(section.id);
  }
  const text = Buffer.from(descriptionText);
  yield Buffer.concat([u8(MARK.end), u8(MARK.description), u32(text.length)]);
  yield text;
}

/** Portions that hold these pages, for a stream of our own. */
export const portionsOf = (pages: Iterable<RamPage>): RamPortion[] => [
  { mark: MARK.start, pages: [] },
  { mark: MARK.last, pages },
];
