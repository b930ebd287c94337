/** Instructions that bare QEMU executes from reset to the guest's shell, annotated against plain. */

import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from '../../guests/cache.ts';
import { buildKernel, type Variant } from '../../guests/linux/kernel.ts';
import { runProgram, step } from '../../guests/steps.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { buildArchive } from '../archive.ts';
import { countingEnvironment } from '../counter.ts';
import { GOALS } from '../goals.ts';
import type { Part, Result } from '../part.ts';

const RUNS = 5;

/** The least of some runs: looking at the machine from outside shifts an interrupt now and then. */
async function count(variant: Variant, folder: string): Promise<number> {
  const { vmlinux } = await buildKernel(variant);
  const initrd = await buildArchive(32, 'marker\n');
  const output = join(folder, `count-${variant}`);
  const env = await countingEnvironment(folder, 'counter', output);
  const previrt = join(REPOSITORY, 'bin/previrt');
  const counts: number[] = [];
  await step(`Counting instructions, ${variant}`, async () => {
    for (let n = 0; n < RUNS; n++) {
      await runProgram(previrt, ['run', vmlinux, '--target', 'bare', '--initrd', initrd], {
        env,
      });
      if (!existsSync(output)) throw new InputError(`the ${variant} kernel did not reach its shell`);
      counts.push(Number(readFileSync(output, 'utf8')));
      rmSync(output);
    }
  });
  return Math.min(...counts);
}

async function run(folder: string): Promise<Result> {
  const [plain, annotated] = [await count('plain', folder), await count('annotated', folder)];
  return {
    rows: [
      {
        what: 'instructions, annotated to plain',
        value: annotated / plain,
        unit: 'ratio',
        goal: GOALS.instructions,
      },
      { what: 'annotated', value: annotated / 1e6, unit: 'million' },
      { what: 'plain', value: plain / 1e6, unit: 'million' },
    ],
  };
}

export const instructions: Part = {
  name: 'instructions',
  what: 'instructions on bare QEMU from reset to the shell, annotated to plain',
  run,
};
