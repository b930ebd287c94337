/** From an instruction's address to its statement and into the next build: what is annotated is what trapped. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { annotate } from '../../src/assembly/annotator.ts';
import { parseElf } from '../../src/elf/image.ts';
import { readSymbols } from '../../src/elf/symbols.ts';
import { statementFinder } from '../../src/sites/trapped.ts';
import { kernelPolicy } from '../assembly/kernel-policy.ts';

/** Each function has its trapped instruction at a label `here_*`, among some that look alike. */
const SOURCE = `
	.text
	.globl first, second, third
	.type first, @function
first:
	movl	%eax, 4(%edx)
	movb	$1, (%ecx,%ebx,4)
	subl	$8, %esp
.Lhere_store:
	movl	%eax, 4(%edx)
	movl	%eax, 4(%edx)
	ret
	.type second, @function
second:
	movl	variable+4, %ecx
	movzbl	(%esi), %eax
.Lhere_extend:
	movzbl	(%esi), %eax
	movswl	-12(%edi), %eax
	ret
	.type third, @function
third:
	movl	variable, %eax
.Lhere_symbol:
	movl	other, %eax
.Lhere_bit:
	lock btsl	$7, variable(,%eax,4)
	sbbl	%ebx, 8(%esi)
.Lhere_move:
	movl	$5, 0x100(%ebp)
	ret
	.data
variable: .long 0, 0
other:	.long 0
`;

const LABELS = ['store', 'extend', 'symbol', 'bit', 'move'];

function link(source: string): ReturnType<typeof parseElf> {
  const folder = mkdtempSync(join(tmpdir(), 'previrt-trapped-'));
  try {
    const [text, object, linked] = ['a.s', 'a.o', 'a'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    writeFileSync(text, source);
    execFileSync('as', ['--32', '-o', object, text]);
    execFileSync('ld', [
      '-m',
      'elf_i386',
      '-Ttext=0xc0100000',
      '-Tdata=0xc0200000',
      '-e',
      '0',
      '-o',
      linked,
      object,
    ]);
    return parseElf(readFileSync(linked));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

it.each(LABELS)('finds its way back: %s', (label) => {
  // A label of its own would be taken for the function's: those of the compiler are not in the image.
  const addresses = new Map(
    readSymbols(link(SOURCE.replaceAll('.Lhere', 'here'))).map(({ name, value }) => [name, value >>> 0]),
  );
  const address = addresses.get(`here_${label}`)!;
  const { statement } = statementFinder(link(SOURCE))(address);
  expect(statement).toBeDefined();
  const policy = {
    ...kernelPolicy,
    domains: ['mmio'] as const,
    profile: [{ ...statement!, domain: 'mmio' as const }],
  };
  // What stands before, and in other functions, may change.
  const changed = SOURCE.replace('first:', 'zeroth:\n\tmovl %eax, 4(%edx)\n\tret\nfirst:');
  const { text, sites } = annotate(changed, policy, 32);
  expect(sites).toBe(1);
  const lines = text.split('\n');
  const at = lines.findIndex((line) => line.includes('.previrt.sites'));
  expect(lines[at - 1]).toBe(`.Lhere_${label}:`);
});
