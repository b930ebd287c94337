/** Small kernels for tests, assembled and linked by the real tools, with site records written by hand. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { viewOf, writeStruct } from '../../src/elf/codec.ts';
import { findSection, parseElf, type Section, type SectionHeader } from '../../src/elf/image.ts';
import { FORMATS } from '../../src/elf/structs.ts';
import { DOMAINS, SITE_KINDS, type SiteKindName } from '../../src/x86/site-kinds.ts';
import { SITE_FLAGS, SITE_RECORD_VERSION } from '../../src/x86/site-record.ts';

export interface FixtureSite {
  readonly kind: SiteKindName;
  /** GNU-as text of the instruction. */
  readonly instruction: string;
  /** Redundant prefixes in front. */
  readonly prefixes: number;
  readonly flags?: number;
}

/** A widened instruction and its record, as the annotator writes them. */
export function siteText({ kind, instruction, prefixes, flags = 0 }: FixtureSite): string {
  const widen = prefixes > 0 ? `.byte ${Array(prefixes).fill('0x2e').join(', ')}` : '';
  const { id, domain } = SITE_KINDS[kind];
  return `
661: ${widen}
  ${instruction}
662:
  .pushsection .previrt.sites,"a"
  .long 661b - .
  .byte 662b - 661b, ${prefixes}, ${DOMAINS[domain]}, ${id}
  .value ${flags}, ${SITE_RECORD_VERSION}
  .popsection
`;
}

/** One site of each form that has an entry of its own, and some that have not. */
export const FIXTURE_SITES: readonly FixtureSite[] = [
  { kind: 'cli', instruction: 'cli', prefixes: 4 },
  { kind: 'sti', instruction: 'sti', prefixes: 4 },
  { kind: 'pushf', instruction: 'pushfl', prefixes: 4 },
  { kind: 'popf', instruction: 'popfl', prefixes: 4, flags: SITE_FLAGS.flagsLive },
  { kind: 'hlt', instruction: 'hlt', prefixes: 5, flags: SITE_FLAGS.absolute },
  { kind: 'out', instruction: 'outb %al, %dx', prefixes: 4 },
  { kind: 'in', instruction: 'inl %dx, %eax', prefixes: 4 },
  { kind: 'in', instruction: 'inb $0x21, %al', prefixes: 3 },
  { kind: 'push_seg', instruction: 'push %fs', prefixes: 3 },
  { kind: 'pop_seg', instruction: 'pop %es', prefixes: 4 },
  { kind: 'mov_to_seg', instruction: 'mov %eax, %ds', prefixes: 3 },
  { kind: 'mov_to_seg', instruction: 'mov %bx, %ss', prefixes: 3 },
  { kind: 'mov_from_seg', instruction: 'mov %cs, %eax', prefixes: 3 },
  { kind: 'mov_to_cr', instruction: 'mov %eax, %cr3', prefixes: 2 },
  { kind: 'rdmsr', instruction: 'rdmsr', prefixes: 3 },
  { kind: 'rdtsc', instruction: 'rdtsc', prefixes: 4, flags: SITE_FLAGS.absolute },
  { kind: 'lgdt', instruction: 'lgdt 0x1234(%eax)', prefixes: 8 },
  { kind: 'far_jmp', instruction: 'ljmp $0x10, $0xc1000000', prefixes: 0 },
  { kind: 'iret', instruction: 'iretl', prefixes: 4 },
];

export interface ImageSource {
  readonly text: string;
  /** Of the address of the text, for `ld`. */
  readonly base?: string;
  /** Bytes that stand page-aligned in the data. */
  readonly embedded?: Uint8Array;
  readonly shared?: boolean;
}

export const sitesText = (sites: readonly FixtureSite[] = FIXTURE_SITES): string =>
  `.globl _start\n.type _start, @function\n_start:\n${sites.map(siteText).join('nop\n')}\nret\n.size _start, . - _start\n`;

/** Assembles and links a 32-bit image. */
export function linkImage({ text, base = '0xc1000000', embedded, shared = false }: ImageSource): Uint8Array {
  const directory = mkdtempSync(join(tmpdir(), 'previrt-fixture-'));
  const inDirectory = (name: string) => join(directory, name);
  try {
    let source = `.text\n${text}\n.section .note.GNU-stack,"",@progbits\n`;
    if (embedded) {
      writeFileSync(inDirectory('embedded'), embedded);
      source += `.data\n.byte 1\n.balign 4096\n.globl embedded\nembedded: .incbin "${inDirectory('embedded')}"\n`;
    }
    writeFileSync(inDirectory('source.s'), source);
    execFileSync('as', ['--32', '-o', inDirectory('object.o'), inDirectory('source.s')]);
    const how = shared ? ['-shared', '--hash-style=sysv'] : ['-Ttext', base];
    execFileSync('ld', ['-m', 'elf_i386', ...how, '-o', inDirectory('image'), inDirectory('object.o')]);
    return new Uint8Array(readFileSync(inDirectory('image')));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Assembles a module, for 32 or 64 bits. */
export function assembleObject(text: string, width: 32 | 64 = 32): Uint8Array {
  const directory = mkdtempSync(join(tmpdir(), 'previrt-object-'));
  try {
    writeFileSync(join(directory, 's'), `${text}\n.section .note.GNU-stack,"",@progbits\n`);
    execFileSync('as', [`--${width}`, '-o', join(directory, 'o'), join(directory, 's')]);
    return new Uint8Array(readFileSync(join(directory, 'o')));
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** A shared object with a site, as the kernel embeds its vDSO. */
export const linkVdso = (): Uint8Array =>
  linkImage({
    shared: true,
    text: `.globl __kernel_vsyscall\n.type __kernel_vsyscall, @function\n__kernel_vsyscall:\n${siteText({
      kind: 'entry_int80',
      instruction: 'int $0x80',
      prefixes: 4,
      flags: SITE_FLAGS.absolute,
    })}\nret\n.size __kernel_vsyscall, . - __kernel_vsyscall\n`,
  });

/** An image in which its data, by the section headers, lies where its code does. */
export function withOverlap(image: Uint8Array): Uint8Array {
  const elf = parseElf(image);
  const [text, data] = ['.text', '.data'].map((name) => findSection(elf, name)!) as [Section, Section];
  const out = new Uint8Array(image);
  const put = (index: number, header: SectionHeader): void => {
    const { section } = FORMATS[elf.class];
    writeStruct(section, viewOf(out), elf.header.e_shoff + index * section.size, header);
  };
  // Of two at an address the first is found.
  put(Math.min(text.index, data.index), { ...data, sh_addr: text.sh_addr });
  put(Math.max(text.index, data.index), text);
  return out;
}
