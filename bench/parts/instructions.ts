/** Instructions that bare QEMU executes from reset to the guest's shell, annotated against plain. */

import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { REPOSITORY } from '../../guests/cache.ts';
import { buildKernel, type Variant } from '../../guests/linux/kernel.ts';
import { runProgram, step } from '../../guests/steps.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { buildArchive } from '../archive.ts';
import { buildCounter } from '../counter.ts';
import { GOALS } from '../goals.ts';
import type { Part, Result } from '../part.ts';

const QEMU = 'qemu-system-i386';
const RUNS = 5;
/** Where the plugin writes, for the wrapper. */
const OUTPUT = 'PREVIRT_BENCH_COUNT';

/** The clock counts instructions, one a nanosecond, so that timer interrupts come at the same ones in every run. */
const DETERMINISM = '-icount shift=0,sleep=off -rtc base=2020-01-01,clock=vm';

function findProgram(name: string): string {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const found = folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
  if (found === undefined) throw new InputError(`${name} is not installed`, 'run sh guests/setup.sh');
  return found;
}

/** A folder with a QEMU that counts: the PC stays the one that `previrt run` makes. */
async function countingQemu(folder: string): Promise<string> {
  const programs = join(folder, 'counting');
  mkdirSync(programs, { recursive: true });
  const plugin = `-plugin '${await buildCounter()}',out="$${OUTPUT}"`;
  const wrapper = join(programs, QEMU);
  writeFileSync(wrapper, `#!/bin/sh\nexec '${findProgram(QEMU)}' "$@" ${DETERMINISM} ${plugin}\n`);
  chmodSync(wrapper, 0o755);
  return programs;
}

/** The least of some runs: looking at the machine from outside shifts an interrupt now and then. */
async function count(variant: Variant, folder: string): Promise<number> {
  const { vmlinux } = await buildKernel(variant);
  const initrd = await buildArchive(32, 'marker\n');
  const output = join(folder, `count-${variant}`);
  const path = `${await countingQemu(folder)}${delimiter}${process.env.PATH ?? ''}`;
  const previrt = join(REPOSITORY, 'bin/previrt');
  const counts: number[] = [];
  await step(`Counting instructions, ${variant}`, async () => {
    for (let n = 0; n < RUNS; n++) {
      await runProgram(previrt, ['run', vmlinux, '--target', 'bare', '--initrd', initrd], {
        env: { PATH: path, [OUTPUT]: output },
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
