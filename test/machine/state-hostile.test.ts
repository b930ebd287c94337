/** Machine state files that a stranger has made, or that were damaged: refused with one line, and without more memory than they are worth. */

import { crc32, deflateSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { viewOf } from '../../src/elf/codec.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { decodeNotes, encodeNote, type Note } from '../../src/elf/notes.ts';
import { decodeRecord, encodeRecord, type RecordOf } from '../../src/elf/record.ts';
import { ELF32_EHDR, ELF32_PHDR } from '../../src/elf/structs.ts';
import { PAGE_SIZE } from '../../src/machine/ram.ts';
import {
  CHECKSUMS,
  DEVICE_NOTES,
  decodeNote,
  NOTE_OWNER,
  NOTE_TYPES,
  RAM_BLOCK,
  STATE_HEADER,
  STATE_NOTES,
} from '../../src/machine/state-notes.ts';
import { verifyRam } from '../../src/machine/state-reader.ts';
import { guestVirtual } from '../../src/x86/address.ts';
import { offsetOf } from '../../src/x86/struct.ts';
import { allOf, machineOf, PAGINGS, StateFolder } from './state-fixture.ts';

const folder = new StateFolder();
afterAll(() => folder.remove());

/** Sixteen pages, of which some are not zero. */
function smallRam(): Uint8Array {
  const ram = new Uint8Array(16 * PAGE_SIZE);
  ram.fill(0x5a, 5 * PAGE_SIZE, 7 * PAGE_SIZE);
  ram.fill(0xa5, 9 * PAGE_SIZE, 10 * PAGE_SIZE);
  return ram;
}

const ram = smallRam();
const site = (address: number, owner: number) => ({
  address: guestVirtual(address),
  length: 5,
  widening: 4,
  domain: 1,
  kind: 1,
  flags: 0,
  entry: 3,
  original: Uint8Array.of(0x2e, 0x2e, 0x2e, 0x2e, 0xfa),
  owner,
});
const machine = {
  ...machineOf(ram, PAGINGS['pages of 4 KiB']!(ram)),
  sites: [site(0xc000_0000, 0), site(0xc000_0010, 0), site(0xf800_0000, 1)],
};
const plain = folder.write('plain', machine);
const packed = folder.write('packed', machine, { compress: true });

/** Reads all that there is; what is wrong with it, or nothing. Anything but an InputError of one line is a failure. */
function complaint(bytes: Uint8Array): string | undefined {
  try {
    folder.read(
      'hostile',
      (state) => {
        verifyRam(state);
        allOf(state);
      },
      bytes,
    );
    return undefined;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    expect(error.message).not.toContain('\n');
    return error.message;
  }
}

const field = (bytes: Uint8Array, name: string): number =>
  viewOf(bytes).getUint32(offsetOf(ELF32_EHDR, name), true);

/** A field of the note segment's program header. */
const noteField = (bytes: Uint8Array, name: string): number =>
  viewOf(bytes).getUint32(field(bytes, 'e_phoff') + offsetOf(ELF32_PHDR, name), true);

/** A file with other notes, at its end, and its checksums right: readers go by the headers. */
function withNotes(change: (notes: Note[]) => Note[], bytes: Uint8Array = plain): Uint8Array {
  const table = field(bytes, 'e_phoff');
  const start = noteField(bytes, 'p_offset');
  const notes = change(decodeNotes(bytes.slice(start, start + noteField(bytes, 'p_filesz'))));
  const own = notes.filter(({ owner, type }) => owner !== NOTE_OWNER || type !== NOTE_TYPES.checksums);
  const body = Buffer.concat(own.map(encodeNote));
  const segments = bytes.slice(
    table,
    table + viewOf(bytes).getUint16(offsetOf(ELF32_EHDR, 'e_phnum'), true) * ELF32_PHDR.size,
  );
  const sums = (headers: number) =>
    encodeNote({
      owner: NOTE_OWNER,
      type: NOTE_TYPES.checksums,
      bytes: encodeRecord(CHECKSUMS, { notes: crc32(body), headers }),
    });
  const noteSize = body.length + sums(0).length;
  viewOf(segments).setUint32(offsetOf(ELF32_PHDR, 'p_offset'), bytes.length, true);
  viewOf(segments).setUint32(offsetOf(ELF32_PHDR, 'p_filesz'), noteSize, true);
  const header = bytes.slice(0, ELF32_EHDR.size);
  viewOf(header).setUint32(offsetOf(ELF32_EHDR, 'e_phoff'), bytes.length + noteSize, true);
  const rest = bytes.subarray(ELF32_EHDR.size);
  return new Uint8Array(Buffer.concat([header, rest, body, sums(crc32(segments, crc32(header))), segments]));
}

const changed = (type: number, how: (bytes: Uint8Array) => Uint8Array) => (notes: Note[]) =>
  notes.map((note) =>
    note.owner === NOTE_OWNER && note.type === type ? { ...note, bytes: how(note.bytes.slice()) } : note,
  );

type Block = RecordOf<typeof RAM_BLOCK>;

/** The RAM map, changed. */
const withBlocks = (how: (blocks: Block[]) => Block[], bytes: Uint8Array = plain): Uint8Array =>
  withNotes(
    changed(NOTE_TYPES.ram, (map) => {
      const blocks = Array.from({ length: map.length / RAM_BLOCK.size }, (_, index) =>
        decodeRecord(RAM_BLOCK, map, index * RAM_BLOCK.size, 'block'),
      );
      return new Uint8Array(Buffer.concat(how(blocks).map((block) => encodeRecord(RAM_BLOCK, block))));
    }),
    bytes,
  );

const first = (change: Partial<Block>) => (blocks: Block[]) => [
  { ...blocks[0]!, ...change },
  ...blocks.slice(1),
];

it('the tools of these tests make files that are in order', () => {
  expect(complaint(plain)).toBeUndefined();
  expect(complaint(packed)).toBeUndefined();
  expect(complaint(withNotes((notes) => notes))).toBeUndefined();
  expect(complaint(withBlocks((blocks) => blocks, packed))).toBeUndefined();
});

describe.each([
  ['plain', plain],
  ['compressed', packed],
])('%s', (_name, bytes) => {
  it('every truncation is refused', () => {
    for (let length = 0; length < bytes.length; length += length % PAGE_SIZE < 4 ? 1 : 211)
      expect(complaint(bytes.subarray(0, length)), `${length} bytes`).toBeDefined();
    for (let length = bytes.length - 300; length < bytes.length; length++)
      expect(complaint(bytes.subarray(0, length)), `${length} bytes`).toBeDefined();
  });

  it('no change of a byte goes unseen, but where nothing is', () => {
    const notesEnd = noteField(bytes, 'p_offset') + noteField(bytes, 'p_filesz');
    for (let at = 0; at < bytes.length; at += at > notesEnd ? 97 : 1) {
      const damaged = new Uint8Array(bytes);
      damaged[at]! ^= 1 << (at & 7);
      if (complaint(damaged) !== undefined) continue;
      // The room behind the notes, and the pages that are zero and so are in no block.
      const page = bytes.subarray(at - (at % PAGE_SIZE), at - (at % PAGE_SIZE) + PAGE_SIZE);
      const padding = at >= notesEnd && at < Math.ceil(notesEnd / PAGE_SIZE) * PAGE_SIZE;
      const unused = padding || page.every((byte) => byte === 0);
      expect(unused, `byte ${at}`).toBe(true);
    }
  });

  it('changes of several bytes, with the checksums right or wrong', () => {
    const change = fc.tuple(fc.nat(bytes.length - 1), fc.constantFrom(0, 1, 0x7f, 0x80, 0xff));
    fc.assert(
      fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), (changes) => {
        const damaged = new Uint8Array(bytes);
        for (const [at, value] of changes) damaged[at] = value;
        complaint(damaged);
      }),
      { numRuns: 300 },
    );
  });

  it('changes in notes whose checksums are right', () => {
    const notes = fc.array(
      fc.record({
        note: fc.nat(20),
        at: fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        value: fc.nat(255),
      }),
      {
        minLength: 1,
        maxLength: 4,
      },
    );
    fc.assert(
      fc.property(notes, (changes) => {
        const damaged = withNotes((old) => {
          const copies = old.map((note) => ({ ...note, bytes: note.bytes.slice() }));
          for (const { note, at, value } of changes) {
            const target = copies[note % copies.length]!.bytes;
            target[Math.floor(at * target.length)] = value;
          }
          return copies;
        }, bytes);
        complaint(damaged);
      }),
      { numRuns: 400 },
    );
  });
});

it('arbitrary bytes, and headers with arbitrary numbers', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      expect(complaint(bytes)).toBeDefined();
      const header = new Uint8Array(Math.max(bytes.length, ELF32_EHDR.size));
      header.set(bytes);
      header.set(plain.subarray(0, 20));
      expect(complaint(header)).toBeDefined();
    }),
    { numRuns: 300 },
  );
});

const padded = (bytes: Uint8Array): Uint8Array => Uint8Array.from([...bytes, 0, 0, 0, 0]);
const word = (bytes: Uint8Array, offset: number, value: number): Uint8Array => {
  viewOf(bytes).setUint32(offset, value, true);
  return bytes;
};
const header = (name: string, value: number) =>
  withNotes(changed(NOTE_TYPES.header, (bytes) => word(bytes, offsetOf(STATE_HEADER, name), value)));
const structure = (name: string, how: (bytes: Uint8Array) => Uint8Array) =>
  withNotes(changed([...STATE_NOTES, ...DEVICE_NOTES].find((note) => note.name === name)!.type, how));
const without = (type: number) =>
  withNotes((notes) => notes.filter((note) => note.owner !== NOTE_OWNER || note.type !== type));

describe('is refused by name', () => {
  it.each([
    [
      'a newer format',
      header('format_version', 2),
      /^machine state format version 2 is newer than this previrt's, 1$/,
    ],
    ['another virtual PC', header('pc_version', 7), /^note header: virtual PC version 7/],
    [
      'more RAM than a guest can have',
      header('ram_size', 0xffff_f000),
      /^note header: RAM of 4294963200 bytes/,
    ],
    ['half a page of RAM', header('ram_size', 0x10800), /^note header: RAM/],
    ['a note that is missing', without(3), /^note cpu is missing$/],
    ['no RAM map', without(NOTE_TYPES.ram), /^note ram is missing$/],
    [
      'a note that is there twice',
      withNotes((notes) => [...notes, notes.find(({ type, owner }) => type === 3 && owner === NOTE_OWNER)!]),
      /type 3 is there twice/,
    ],
    [
      'a note that nobody knows',
      withNotes((notes) => [...notes, { owner: NOTE_OWNER, type: 99, bytes: new Uint8Array(4) }]),
      /type 99 is not known/,
    ],
    [
      'more notes than anybody has',
      withNotes((notes) => [
        ...notes,
        ...Array<Note>(4096).fill({ owner: '', type: 0, bytes: new Uint8Array() }),
      ]),
      /^more than 4096 notes$/,
    ],
    ['a long note', structure('uart16550', padded), /^note uart16550 has \d+ bytes, not 40$/],
    ['a short note', structure('cpu', (bytes) => bytes.slice(4)), /^note cpu has \d+ bytes/],
    [
      'a device that would be read out of bounds',
      structure('uart16550', (bytes) => bytes.fill(0xff)),
      /^note uart16550: head cannot be 255$/,
    ],
    [
      'a counter by whose period would be divided',
      structure('i8254', (bytes) => bytes.fill(0)),
      /^note i8254: period cannot be 0$/,
    ],
    [
      'an FPU area that is too large',
      structure('fpu', (bytes) => word(bytes, 4, 5000)),
      /^note fpu: fpu_size cannot be 5000$/,
    ],
    [
      'an absurd number of sites',
      withNotes(changed(NOTE_TYPES.sites, (bytes) => word(bytes, 0, 0xffff_ffff))),
      /^patch table: /,
    ],
    [
      'a site out of order',
      withNotes(changed(NOTE_TYPES.sites, (bytes) => word(bytes, 8, 0xd000_0000))),
      /^patch entry 1 \(0xc0000010\) is out of order/,
    ],
    [
      'a RAM block beyond the RAM',
      withBlocks((blocks) => [{ ...blocks[0]!, address: 0x100000n }]),
      /^RAM block at 0x00100000: lies beyond the RAM$/,
    ],
    [
      'an address beyond all numbers',
      withBlocks((blocks) => [{ ...blocks[0]!, address: 2n ** 64n - 4096n }]),
      /^RAM block at 0x[0-9a-f]+: /,
    ],
    ['blocks that overlap', withBlocks((blocks) => [blocks[0]!, blocks[0]!]), /overlaps the one before it/],
    [
      'blocks that overlap in the file',
      withBlocks((blocks) => [blocks[0]!, { ...blocks[1]!, offset: blocks[0]!.offset }]),
      /overlaps another in the file/,
    ],
    [
      'a block beyond the file',
      withBlocks((blocks) => [{ ...blocks[0]!, offset: 2n ** 40n }]),
      /truncated: lies beyond the end of the file$/,
    ],
    ['an unknown encoding', withBlocks(first({ encoding: 9 })), /with encoding 9$/],
    ['a block of no bytes', withBlocks(first({ size: 0, stored: 0 })), /0 bytes are not whole pages/],
    [
      'a block that is too large',
      withBlocks(first({ size: 2 ** 31, stored: 2 ** 31 })),
      /not whole pages or too many$/,
    ],
    [
      'a block with another checksum',
      withBlocks(first({ checksum: 1 })),
      /^RAM block at 0x00001000 does not have its checksum/,
    ],
    [
      'a compressed block that is none',
      withBlocks(
        first({
          checksum: crc32(plain.subarray(2 * PAGE_SIZE, 2 * PAGE_SIZE + 100)),
          stored: 100,
          encoding: 1,
        }),
      ),
      /cannot be inflated to/,
    ],
    ['a compression bomb', inflating(new Uint8Array(4 * 2 ** 20)), /cannot be inflated to 8192 bytes/],
    [
      'a block that inflates to less than it says',
      inflating(new Uint8Array(8191)),
      /cannot be inflated to 8192 bytes/,
    ],
  ])('%s', (_name, bytes, message) => {
    expect(complaint(bytes)).toMatch(message);
  });
});

/** A block that says that it is two pages, and inflates to these bytes. */
function inflating(content: Uint8Array): Uint8Array {
  const stored = deflateSync(content);
  const bytes = new Uint8Array(plain);
  bytes.set(stored, 2 * PAGE_SIZE);
  const block = { size: 8192, offset: 8192n, stored: stored.length, checksum: crc32(stored), encoding: 1 };
  return withBlocks((blocks) => [{ ...blocks[0]!, ...block }], bytes);
}

describe('an older file', () => {
  it('has zeros for what it lacks', () => {
    const layout = DEVICE_NOTES.find(({ name }) => name === 'pci')!.layout;
    const bytes = new Uint8Array(layout.size - 8).fill(1);
    expect(decodeNote(layout, bytes, 'pci', true)).toMatchObject({
      config_address: 0x01010101,
      command: 0,
      interrupt_line: 0,
    });
    expect(() => decodeNote(layout, bytes, 'pci', false)).toThrow(/^note pci has/);
    expect(() => decodeNote(layout, new Uint8Array(layout.size + 1), 'pci', true)).toThrow(/^note pci has/);
  });
});
