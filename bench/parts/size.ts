/** What annotation adds to the kernel's text. */

import { readFileSync } from 'node:fs';
import { buildKernel, type Variant } from '../../guests/linux/kernel.ts';
import { parseElf } from '../../src/elf/image.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { GOALS } from '../goals.ts';
import type { Part, Result } from '../part.ts';

const TEXT = '.text';

/** Bytes of the text. */
async function textSize(variant: Variant): Promise<number> {
  const { vmlinux } = await buildKernel(variant);
  const text = parseElf(readFileSync(vmlinux)).sections.find(({ name }) => name === TEXT);
  if (text === undefined) throw new InputError(`${vmlinux} has no section ${TEXT}`);
  return text.sh_size;
}

async function run(): Promise<Result> {
  const [plain, annotated] = [await textSize('plain'), await textSize('annotated')];
  return {
    rows: [
      { what: 'growth of .text', value: (annotated / plain - 1) * 100, unit: '%', goal: GOALS.size },
      { what: '.text, annotated', value: annotated / 1e6, unit: 'MB' },
      { what: '.text, plain', value: plain / 1e6, unit: 'MB' },
    ],
  };
}

export const size: Part = { name: 'size', what: "growth of the kernel's text by annotation", run };
