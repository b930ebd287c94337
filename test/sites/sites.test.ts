import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { findSection, parseElf } from '../../src/elf/image.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { embeddedImages, readAllSites } from '../../src/sites/embedded.ts';
import {
  decodePatchTable,
  encodePatchTable,
  PATCH_ENTRY,
  PATCH_TABLE_HEADER,
  patchEntry,
} from '../../src/sites/patch-table.ts';
import { readSites } from '../../src/sites/site.ts';
import { SITE_FLAGS, SITE_RECORD_SIZE, SITE_SECTION } from '../../src/x86/site-record.ts';
import { FIXTURE_SITES, linkImage, linkVdso, sitesText, siteText } from './fixture.ts';

const plain = linkImage({ text: sitesText() });
const withVdso = linkImage({ text: sitesText(), embedded: linkVdso() });

test('each record becomes a site with what it says', () => {
  const sites = readSites(parseElf(plain));
  expect(sites.map(({ kind, widening, flags }) => ({ kind, widening, flags }))).toEqual(
    FIXTURE_SITES.map(({ kind, prefixes, flags = 0 }) => ({ kind, widening: prefixes, flags })),
  );
  expect(sites[0]).toMatchObject({
    record: 0,
    address: 0xc1000000,
    offset: findSection(parseElf(plain), '.text')!.sh_offset,
    length: 5,
    domain: 'cpu',
    original: Uint8Array.from([0x2e, 0x2e, 0x2e, 0x2e, 0xfa]),
    operation: { form: 'Cli', registers: [] },
    section: '.text',
    function: '_start',
  });
  expect(sites.find(({ kind }) => kind === 'mov_to_seg')?.operation).toEqual({
    form: 'Mov_Sreg_r32m16',
    registers: ['ds', 'eax'],
  });
});

test('a slot widened by a NOP in front is read if the record says so, and only then', () => {
  const nopped = (flags: number) =>
    linkImage({
      text: `.globl _start\n_start:\n${siteText({
        kind: 'cli',
        instruction: 'cli',
        prefixes: 0,
        flags,
      }).replace(/661: /, '661: nopl 1(%eax)\n')}`.replace('662b - 661b, 0,', '662b - 661b, 4,'),
    });
  expect(readSites(parseElf(nopped(SITE_FLAGS.interiorBoundary)))).toMatchObject([
    { length: 5, widening: 4 },
  ]);
  expect(() => readSites(parseElf(nopped(0)))).toThrow(/record 0 \(0xc1000000\) does not point at a cli/);
});

test("the vDSO's sites lie at the addresses of its bytes in the kernel", () => {
  const elf = parseElf(withVdso);
  expect(embeddedImages(elf)).toHaveLength(1);
  const site = readAllSites(elf).at(-1)!;
  expect(site).toMatchObject({
    kind: 'entry_int80',
    domain: 'entry',
    section: 'vdso:.text',
    function: '__kernel_vsyscall',
  });
  expect(withVdso.subarray(site.offset, site.offset + site.length)).toEqual(site.original);
  const data = findSection(elf, '.data')!;
  expect(site.address - data.sh_addr).toBe(site.offset - data.sh_offset);
});

describe('shared objects in the data', () => {
  const embedded = (bytes: Uint8Array) =>
    embeddedImages(parseElf(linkImage({ text: sitesText(), embedded: bytes })));
  const vdso = linkVdso();
  const pages = (bytes: Uint8Array) => {
    const out = new Uint8Array(Math.ceil(bytes.length / 4096) * 4096);
    out.set(bytes);
    return out;
  };

  test('lie one behind the other', () => {
    const found = embedded(Buffer.concat([pages(vdso), pages(vdso), vdso]));
    expect(found.map(({ address }) => address - found[0]!.address)).toEqual(
      [0, 1, 2].map((index) => index * pages(vdso).length),
    );
  });

  test('do not lie in each other', () => {
    const [page, sections] = [4096, 60_000];
    const header = new Uint8Array(vdso.subarray(0, 52));
    const view = new DataView(header.buffer);
    view.setUint16(44, 0, true); // e_phnum
    view.setUint16(48, sections, true); // e_shnum
    view.setUint16(50, 0, true); // e_shstrndx
    const count = 1000;
    const bytes = new Uint8Array(count * page + sections * 40);
    for (let index = 0; index < count; index++) {
      view.setUint32(32, (count - index) * page, true); // e_shoff
      bytes.set(header, index * page);
    }
    expect(embedded(bytes)).toEqual([]);
  });
});

describe('a record that does not fit', () => {
  const section = findSection(parseElf(plain), SITE_SECTION)!;
  const damaged = (record: number, change: (view: DataView) => void) => {
    const bytes = new Uint8Array(plain);
    change(new DataView(bytes.buffer, section.sh_offset + record * SITE_RECORD_SIZE, SITE_RECORD_SIZE));
    return () => readSites(parseElf(bytes));
  };
  const shift = (view: DataView, by: number) => view.setInt32(0, view.getInt32(0, true) + by, true);

  test.each([
    [
      'points outside the code',
      2,
      (v: DataView) => shift(v, 0x10000),
      /record 2 \(0xc101000c\) points outside the code/,
    ],
    [
      'runs over the end of the code',
      18,
      (v: DataView) => shift(v, 2),
      /record 18 \(0xc100007c\) points outside/,
    ],
    [
      'points before its slot',
      3,
      (v: DataView) => shift(v, -1),
      /record 3 \(0xc1000011\) does not point at a popf/,
    ],
    [
      'has an unknown kind',
      1,
      (v: DataView) => v.setUint8(7, 200),
      /record 1 \(0xc1000006\) has the unknown kind 200/,
    ],
    ['has an unknown domain', 1, (v: DataView) => v.setUint8(6, 9), /unknown domain 9/],
    [
      'has a domain that is not its kind’s',
      1,
      (v: DataView) => v.setUint8(6, 2),
      /says domain portio, which kind sti is not in/,
    ],
    [
      'has another kind than the code',
      0,
      (v: DataView) => v.setUint8(7, 2),
      /does not point at a sti in a slot of 5 bytes \(2e 2e 2e 2e fa\)/,
    ],
    [
      'is of another version',
      4,
      (v: DataView) => v.setUint16(10, 2, true),
      /record 4 .* has version 2, not 1/,
    ],
    ['has unknown flags', 4, (v: DataView) => v.setUint16(8, 0x100, true), /unknown flags 0x100/],
    [
      'is for 64-bit code',
      0,
      (v: DataView) => v.setUint16(8, SITE_FLAGS.long, true),
      /64-bit code in a 32-bit file|32-bit file/,
    ],
    ['has a slot that is too short', 0, (v: DataView) => v.setUint8(4, 4), /slot of 4 bytes; 5 to 15/],
    [
      'has an absolute slot that is too short',
      4,
      (v: DataView) => v.setUint8(4, 5),
      /slot of 5 bytes; 6 to 15/,
    ],
    ['has a slot that is too long', 0, (v: DataView) => v.setUint8(4, 16), /slot of 16 bytes/],
    ['is wider than its slot', 0, (v: DataView) => v.setUint8(5, 5), /does not point at a cli/],
    [
      'counts the instruction as widening',
      17,
      (v: DataView) => v.setUint8(5, 1),
      /does not point at a far_jmp/,
    ],
  ])('%s', (_name, record, change, message) => {
    expect(damaged(record, change)).toThrow(message);
    expect(damaged(record, change)).toThrow(InputError);
  });

  test('is there twice', () => {
    const bytes = new Uint8Array(plain);
    const first = bytes.slice(section.sh_offset, section.sh_offset + SITE_RECORD_SIZE);
    bytes.set(first, section.sh_offset + SITE_RECORD_SIZE);
    shift(new DataView(bytes.buffer, section.sh_offset + SITE_RECORD_SIZE), -SITE_RECORD_SIZE);
    expect(() => readSites(parseElf(bytes))).toThrow(
      /record 1 \(0xc1000000\) overlaps record 0 \(0xc1000000\)/,
    );
  });

  test('any change of records is refused or gives sites inside the code', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(fc.integer({ min: 0, max: section.sh_size - 1 }), fc.integer({ min: 0, max: 255 })),
          {
            minLength: 1,
            maxLength: 6,
          },
        ),
        (changes) => {
          const bytes = new Uint8Array(plain);
          for (const [offset, value] of changes) bytes[section.sh_offset + offset] = value;
          try {
            for (const site of readSites(parseElf(bytes))) {
              expect(site.section).toBe('.text');
              expect(bytes.subarray(site.offset, site.offset + site.length)).toEqual(site.original);
            }
          } catch (error) {
            if (!(error instanceof InputError)) throw error;
          }
        },
      ),
      { numRuns: 1000 },
    );
  });
});

test('a file without sites is refused by name', () => {
  const bytes = linkImage({ text: '.globl _start\n_start: cli\n' });
  expect(() => readSites(parseElf(bytes))).toThrow(/no sites: section .previrt.sites is missing/);
});

describe('patch table', () => {
  const entries = readSites(parseElf(plain)).map((site, index) => patchEntry(site, index));

  test('has the layout that the wedge is built with', () => {
    expect(PATCH_TABLE_HEADER.size).toBe(16);
    expect(PATCH_ENTRY.size).toBe(36);
  });

  test('round trip', () => {
    expect(decodePatchTable(encodePatchTable(entries))).toEqual(entries);
  });

  test('hostile tables', () => {
    const table = encodePatchTable(entries);
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: table.length - 1 }),
        fc.integer({ min: 0, max: 255 }),
        (offset, value) => {
          const changed = new Uint8Array(table);
          changed[offset] = value;
          try {
            decodePatchTable(changed);
          } catch (error) {
            if (!(error instanceof InputError)) throw error;
          }
        },
      ),
    );
    for (let length = 0; length < table.length; length++)
      expect(() => decodePatchTable(table.subarray(0, length))).toThrow(InputError);
  });
});
