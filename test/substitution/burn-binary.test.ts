import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseElf } from '../../src/elf/image.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { discoverSites } from '../../src/sites/discovery.ts';
import { PATCH_COPY, PATCH_NOT_BURNED, PATCH_TRAPS, TRAPPING_BYTE } from '../../src/sites/patch-table.ts';
import { prepareBinaryBurn, SILENT_KINDS } from '../../src/substitution/burn-binary.ts';
import { readPatchTable } from '../../src/substitution/burn-info.ts';
import { unburn } from '../../src/substitution/unburn.ts';
import { linkImage, withOverlap } from '../sites/fixture.ts';

/** Replay a failure with PREVIRT_SEED. */
const SEED = Number(process.env.PREVIRT_SEED ?? Date.now() % 2 ** 31);

/** Instructions by what burning does with them. */
const SILENT = [
  ...['pushf', 'popf', 'iret', 'push %fs', 'pop %ds', 'mov %gs, %eax', 'mov %eax, %ss', 'mov %ds, 8(%eax)'],
  ...['cpuid', 'sgdt (%eax)', 'smsw %ax', 'str %dx', 'lar %ax, %ecx', 'lsl (%eax), %ecx', 'verw (%esp)'],
  ...['lss 4(%eax), %esp', 'lcall *(%eax)', 'ljmp $0x60, $0xc1000000', 'lret', 'lret $4', 'xgetbv'],
];
const TRAPPING = [
  'cli',
  'sti',
  'hlt',
  'mov %cr3, %eax',
  'wrmsr',
  'lgdt (%eax)',
  'inb %dx, %al',
  'invlpg (%eax)',
];
const PLAIN = ['nop', 'mov %eax, %ebx', 'call other', 'movl $0x9c9d9c9d, %eax', 'rdtsc', 'int $0x80', 'ud2'];

const kernel = (instructions: readonly string[]): Uint8Array =>
  linkImage({
    text: `.globl _start
_start:
  ${instructions.join('\n  ')}
  ret
.type other, @function
other:
  ret`,
  });

const prepared = (image: Uint8Array, keep: 'table' | 'copy' = 'table', file = image) =>
  prepareBinaryBurn(image, { target: 'hosted', keep, file });

const burned = (image: Uint8Array): Uint8Array => prepared(image).finish(new Uint8Array(8));

describe(`burning a kernel that was never annotated (PREVIRT_SEED=${SEED})`, () => {
  it('leaves a kernel alone that it could not unburn', () => {
    const image = linkImage({ text: '.globl _start\n_start: popf\nret', embedded: new Uint8Array(16) });
    expect(unburn(burned(image))).toEqual(image);
    expect(() => burned(withOverlap(image))).toThrow('another section of the kernel has the address');
  });

  it('takes alternatives that have no bytes in the file for none', () => {
    const section = '.section .altinstructions,"a",@nobits\n.zero 12\n.text';
    const image = linkImage({ text: `.globl _start\n_start: popf\nret\n${section}` });
    expect(unburn(burned(image))).toEqual(image);
  });

  it('changes one byte of each silent instruction, nothing else, and unburns to the same', () => {
    const programs = fc.array(fc.constantFrom(...SILENT, ...TRAPPING, ...PLAIN), {
      minLength: 1,
      maxLength: 40,
    });
    fc.assert(
      fc.property(programs, (program) => {
        const image = kernel(program);
        const result = burned(image);
        const { sites } = discoverSites(parseElf(image));
        const silent = sites.filter(({ kind }) => SILENT_KINDS.has(kind));
        expect(silent.length).toBe(program.filter((text) => SILENT.includes(text)).length);

        const expected = Uint8Array.from(image);
        for (const { offset } of silent) expected[offset] = TRAPPING_BYTE;
        // The header names the sections that were added.
        expect(Buffer.from(result.subarray(52, image.length)).equals(expected.subarray(52))).toBe(true);
        expect(Buffer.from(unburn(result)).equals(image)).toBe(true);

        const table = readPatchTable(parseElf(result));
        expect(
          table.map(({ address, original }) => [address, Buffer.from(original).toString('hex')]),
        ).toEqual(sites.map(({ address, original }) => [address, Buffer.from(original).toString('hex')]));
        expect(table.map(({ entry }) => entry)).toEqual(
          sites.map(({ kind }) => (SILENT_KINDS.has(kind) ? PATCH_TRAPS : PATCH_NOT_BURNED)),
        );
      }),
      { seed: SEED, numRuns: 10 },
    );
  });

  it('a copy of the file as it was given comes back', () => {
    const image = kernel(['pushf']);
    const file = new Uint8Array(Buffer.from('the same, compressed'));
    expect(unburn(prepared(image, 'copy', file).finish(new Uint8Array(8)))).toEqual(file);
  });

  it('what the kernel copies elsewhere is found there too', () => {
    const image = linkImage({
      text: `.globl _start
_start:
661: .fill 3, 1, 0x90
  ret
.section .altinstr_replacement,"ax",@progbits
662: pushf
  pop %eax
.section .altinstructions,"a",@progbits
  .long 661b - ., 662b - .
  .value 1
  .byte 3, 2`,
    });
    const elf = parseElf(image);
    const entries = readPatchTable(parseElf(burned(image)));
    const start = elf.header.e_entry;
    expect(entries.find(({ address }) => address === start)).toMatchObject({
      entry: PATCH_COPY,
      original: Uint8Array.of(0x9c),
    });
    expect(entries.filter(({ entry }) => entry === PATCH_TRAPS).length).toBe(1);
    expect(Buffer.from(unburn(burned(image))).equals(image)).toBe(true);
  });

  it('code that cannot be proven is left alone and told of; what control flow reaches is not', () => {
    const image = kernel([
      'pushf',
      'jmp 1f',
      '.byte 0xe9, 0x9c, 0x9c', // swallows the bytes behind
      '1: popf',
      'jmp other',
      '.byte 0x0f, 0x04, 0x9c', // no instruction
    ]);
    const { sites, unproven } = discoverSites(parseElf(image));
    expect(sites.map(({ kind }) => kind)).toEqual(['pushf', 'popf']);
    expect(unproven.map(({ length, function: name }) => [length, name])).toEqual([
      [3, '_start'],
      [4, '_start'], // with ret, which nothing reaches
    ]);
  });

  it('a branch into the middle of an instruction puts it in doubt', () => {
    const { sites } = discoverSites(
      parseElf(kernel(['pushf', 'jmp 1f + 1', '1: movl $0x9090909d, %eax', 'jmp 1b'])),
    );
    // Both readings share bytes: neither is changed.
    expect(sites.map(({ kind }) => kind)).toEqual(['pushf']);
  });

  it.each([
    ['is burned already', () => burned(burned(kernel(['pushf']))), /already burned for hosted/],
    ['is 64-bit', () => prepared(Uint8Array.from(parse64())), /not a linked 32-bit x86 kernel/],
  ])('refuses a kernel that %s', (_, act, message) => {
    expect(act).toThrow(message);
    expect(act).toThrow(InputError);
  });
});

/** The least 64-bit ELF file. */
function parse64(): Uint8Array {
  const bytes = Buffer.alloc(64);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  bytes.writeUInt16LE(2, 16);
  bytes.writeUInt16LE(62, 18);
  return bytes;
}
