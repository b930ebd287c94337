/** Kernels of a few instructions. */

import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

export const BIN = join(import.meta.dirname, '../../bin');

/**
 * Makes a Multiboot kernel of these instructions, with an IDT of `vectors` empty gates loaded.
 * @param work folder to build in
 * @param name of the function that they are, and of the file
 * @returns its path
 */
export function smallGuest(work: string, name: string, vectors: number, body: string): string {
  const source = join(work, `${name}.S`);
  writeFileSync(
    source,
    `
        .section .multiboot, "a"
        .long 0x1badb002, 0, -0x1badb002
        .text
        .globl _start
_start: mov $stack, %esp
        lidt table
        call ${name}
        cli
        hlt
        .type ${name}, @function
${name}: ${body}
        ret
        .data
table:  .word ${vectors} * 8 - (${vectors} > 0)
        .long gates
gates:  .fill 256, 8, 0
        .balign 4096
directory: .fill 1024, 4, 0
        .bss
        .fill 4096
stack:
`,
  );
  execFileSync(join(BIN, 'previrt-gcc'), ['-m32', '-c', '-o', join(work, `${name}.o`), source]);
  const elf = join(work, name);
  const link = ['-m', 'elf_i386', '-Ttext=0x200000', '-e', '_start', '-o', elf, join(work, `${name}.o`)];
  execFileSync(join(BIN, 'previrt-ld'), link);
  return elf;
}
