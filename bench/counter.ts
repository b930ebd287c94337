/** QEMUs that count the instructions they execute, deterministically, by plugins of ours. */

import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { cachedFolder, hashOf, REPOSITORY } from '../guests/cache.ts';
import { runProgram } from '../guests/steps.ts';
import { InputError } from '../src/elf/input-error.ts';

/** Plugins by name: how many instructions come before a marker, and which, by address, between markers. */
const SOURCES = { counter: 'bench/counter.c', regions: 'bench/regions.c' } as const;
const HEADER = 'bench/qemu-plugin.h';

export type PluginName = keyof typeof SOURCES;

/** Path of a plugin; its argument out=FILE says where counts go. */
export async function buildPlugin(name: PluginName): Promise<string> {
  const source = SOURCES[name];
  const built = await cachedFolder(`bench/${name}-${hashOf([], [source, HEADER])}`, async (work) => {
    const flags = ['-shared', '-fPIC', '-fvisibility=hidden', '-O2', '-Wall', '-Wextra', '-Werror'];
    await runProgram('gcc', [...flags, '-o', join(work, 'plugin.so'), join(REPOSITORY, source)]);
  });
  return join(built, 'plugin.so');
}

/** The clock counts instructions, one a nanosecond, so that timer interrupts come at the same ones in every run. */
const DETERMINISM = '-icount shift=0,sleep=off -rtc base=2020-01-01,clock=vm';

/** Names the file that a plugin writes, for the wrappers. */
const OUTPUT = 'PREVIRT_BENCH_COUNT';

function findProgram(name: string): string {
  const folders = (process.env.PATH ?? '').split(delimiter);
  const found = folders.map((folder) => join(folder, name)).find((path) => existsSync(path));
  if (found === undefined) throw new InputError(`${name} is not installed`, 'run sh guests/setup.sh');
  return found;
}

/**
 * An environment in which QEMU counts with a plugin, whoever starts it: the
 * machines stay those that the starter makes. Counts go to the file `output`.
 */
export async function countingEnvironment(
  folder: string,
  plugin: PluginName,
  output: string,
): Promise<Record<string, string>> {
  const programs = join(folder, `counting-${plugin}`);
  mkdirSync(programs, { recursive: true });
  const path = await buildPlugin(plugin);
  for (const name of ['qemu-system-i386', 'qemu-system-x86_64']) {
    const wrapper = join(programs, name);
    const option = `-plugin '${path}',out="$${OUTPUT}"`;
    writeFileSync(wrapper, `#!/bin/sh\nexec '${findProgram(name)}' "$@" ${DETERMINISM} ${option}\n`);
    chmodSync(wrapper, 0o755);
  }
  return { PATH: `${programs}${delimiter}${process.env.PATH ?? ''}`, [OUTPUT]: output };
}
