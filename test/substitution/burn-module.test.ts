/** Modules burned ahead of time, as bytes. That they run is for test/conformance/burned-module.test.ts. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { findSection, parseElf, sectionBytes } from '../../src/elf/image.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { decodePatchTable } from '../../src/sites/patch-table.ts';
import { burnReport } from '../../src/substitution/burn-info.ts';
import { burnModule } from '../../src/substitution/burn-module.ts';
import { entryPointerAddress } from '../../src/substitution/entries.ts';
import { unburn } from '../../src/substitution/unburn.ts';
import type { DomainName } from '../../src/x86/site-kinds.ts';
import { SITE_FLAGS } from '../../src/x86/site-record.ts';
import { assembleObject, type FixtureSite, siteText } from '../sites/fixture.ts';

const CHOICE = { target: 'hosted', domains: ['cpu', 'portio'] as DomainName[] };
const STUB_LENGTH = 8;

/** What a linker makes of a module, for some addresses. */
function link(module: Uint8Array): Uint8Array {
  const folder = mkdtempSync(join(tmpdir(), 'previrt-module-'));
  const path = (name: string): string => join(folder, name);
  try {
    writeFileSync(path('m.o'), module);
    execFileSync('ld', [
      ...['-m', 'elf_i386', '-Ttext=0x100000', '-e', '0x100000', '--section-start=.init.text=0x200000'],
      ...['-o', path('m'), path('m.o')],
    ]);
    return readFileSync(path('m'));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const CLI: FixtureSite = { kind: 'cli', instruction: 'cli', prefixes: 4 };
const LGDT: FixtureSite = { kind: 'lgdt', instruction: 'lgdt operand + 4', prefixes: 1 };
const OUT: FixtureSite = { kind: 'out', instruction: 'outb %al, %dx', prefixes: 4 };

const MODULE = [
  `.text\n.globl first\nfirst: nop\n${siteText(CLI)}\nmov operand, %eax\n${siteText(LGDT)}\nret`,
  `.section .init.text,"ax"\n${siteText(OUT)}\nret`,
  '.section .exit.text,"ax"\nret',
  '.data\noperand: .long 1, 2, 3',
].join('\n');

const message = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
  return 'no error';
};

const burn = (module: Uint8Array): Uint8Array => burnModule(module, CHOICE);

describe('a module burned ahead of time', () => {
  it('is what it was after unburn, and is not burned twice', () => {
    const module = assembleObject(MODULE);
    const burned = burn(module);
    expect(Buffer.from(unburn(burned)).equals(module)).toBe(true);
    expect(message(() => burn(burned))).toBe('already burned for hosted');
    expect(burnReport(burned)).toMatchObject({ burned: 3, left: 0, keep: 'copy' });
  });

  it('calls a stub in each section, which calls the wedge in front of the table, wherever it is linked', () => {
    const elf = parseElf(link(burn(assembleObject(MODULE))));
    const pointer = entryPointerAddress('carried');
    for (const [name, count] of [
      ['.text', 2],
      ['.init.text', 1],
    ] as const) {
      const section = findSection(elf, name)!;
      const bytes = sectionBytes(elf, section);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      const stub = Buffer.from(bytes).indexOf(Buffer.from([0x2e, 0x2e, 0xff, 0x15]));
      expect(view.getUint32(stub + 4, true)).toBe(pointer);
      const table = stub + STUB_LENGTH;
      // Distances from the table, so as numbers they are just below 4 GiB, and in order.
      const sites = decodePatchTable(bytes.subarray(table));
      expect(sites).toHaveLength(count);
      for (const { address, length } of sites) {
        const at = table + (address | 0);
        expect([...bytes.subarray(at, at + length - 5)]).toEqual(Array(length - 5).fill(0x2e));
        expect(bytes[at + length - 5]).toBe(0xe8);
        expect(at + length + view.getInt32(at + length - 4, true)).toBe(stub);
      }
    }
  });

  it('has the relocation of an operand in the original bytes, and others where they were', () => {
    const elf = parseElf(link(burn(assembleObject(MODULE))));
    const operand = findSection(elf, '.data')!.sh_addr;
    const bytes = sectionBytes(elf, findSection(elf, '.text')!);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const move = Buffer.from(bytes).indexOf(0xa1); // mov moffs32, %eax
    expect(view.getUint32(move + 1, true)).toBe(operand);
    const stub = Buffer.from(bytes).indexOf(Buffer.from([0x2e, 0x2e, 0xff, 0x15]));
    const original = decodePatchTable(bytes.subarray(stub + STUB_LENGTH))[1]!.original;
    expect([...original.subarray(0, 4)]).toEqual([0x2e, 0x0f, 0x01, 0x15]);
    expect(new DataView(original.buffer, original.byteOffset).getUint32(4, true)).toBe(operand + 4);
  });

  it('leaves the sites of other domains, and sections without sites, as they are', () => {
    const elf = parseElf(link(burnModule(assembleObject(MODULE), { target: 'xen', domains: ['cpu'] })));
    expect(sectionBytes(elf, findSection(elf, '.init.text')!)).toHaveLength(6);
    expect(sectionBytes(elf, findSection(elf, '.exit.text')!)).toHaveLength(1);
  });

  it('is refused if it cannot be burned', () => {
    const refusal = (text: string): string => message(() => burn(assembleObject(text)));
    expect(refusal('.text\nret')).toBe('no sites: section .previrt.sites is missing');
    expect(refusal(`.text\n${siteText({ ...CLI, flags: SITE_FLAGS.absolute, prefixes: 5 })}`)).toBe(
      'site record 0 is in code that runs elsewhere than it is loaded (.text)',
    );
    expect(refusal(`.text\n${siteText({ ...CLI, kind: 'sti' })}`)).toMatch(
      /^site record 0 .* does not point at a sti/,
    );
    expect(refusal(`.data\n${siteText(CLI)}`)).toMatch(/^site record 0 .* points outside the code/);
    expect(refusal('.text\nret\n.section .previrt.sites,"a"\n.skip 12')).toBe(
      'site record 0 has no relocation',
    );
    expect(message(() => burn(assembleObject(MODULE.replaceAll('%eax', '%rax'), 64)))).toBe(
      'not a module for i386; hosted takes no others',
    );
    expect(message(() => burnModule(assembleObject(MODULE), { ...CHOICE, domains: ['portio'] }))).toBe(
      'domain cpu cannot be left out',
    );
  });

  it('is refused without more ado if it is damaged, wherever', () => {
    const module = assembleObject(MODULE);
    for (let size = 0; size < module.length; size += 7) message(() => burn(module.subarray(0, size)));
    for (let at = 0; at < module.length; at += 5) {
      const bad = new Uint8Array(module);
      bad[at]! ^= 0xff;
      message(() => burn(bad));
    }
  });

  it.each([0, 3, 0x1_0000, 0x8000_0000, 0xffff_ffff])('is no larger for an alignment of %d', (alignment) => {
    const module = assembleObject(MODULE);
    const elf = parseElf(module);
    const header = elf.header.e_shoff + findSection(elf, '.text')!.index * 40;
    new DataView(module.buffer).setUint32(header + 32, alignment, true); // sh_addralign
    const burned = burn(module);
    expect(burned.length).toBeLessThan(2 * module.length + 3 * 4096);
    expect(unburn(burned)).toEqual(module);
  });
});
