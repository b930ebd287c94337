/**
 * First file systems of the benchmark's guests: busybox, the benchmark's own
 * programs and a script, for 32-bit and 64-bit kernels alike.
 */

import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { cachedFolder, hashOf, REPOSITORY } from '../guests/cache.ts';
import { type CpioEntry, cpioArchive } from '../guests/linux/cpio.ts';
import { type Architecture, I386_PACKAGES, packagesRoot } from '../guests/linux/debian.ts';
import { runProgram } from '../guests/steps.ts';

export type Width = 32 | 64;

const ARCHITECTURES: Readonly<Record<Width, Architecture>> = { 32: 'i386', 64: 'amd64' };

interface Program {
  readonly source: string;
  readonly flags: readonly string[];
}

/** Makes osbench tell a counter outside what it does. */
const COUNTED = 'bench/counted.h';

/** Static, so that no library is measured with them. */
const PROGRAMS = {
  osbench: { source: 'bench/osbench.c', flags: ['-w', '-static'] },
  'osbench-counted': {
    source: 'bench/osbench.c',
    flags: ['-w', '-static', '-include', join(REPOSITORY, COUNTED)],
  },
  marker: { source: 'bench/marker.c', flags: ['-static', '-nostdlib', '-fno-stack-protector'] },
} as const satisfies Record<string, Program>;

const PROGRAM_NAMES = Object.keys(PROGRAMS) as (keyof typeof PROGRAMS)[];

/** Runs /script and powers off. */
const INIT = 'guests/linux/root/init';
/** All that an archive is made from, but for the script. */
const RECIPE = [
  'bench/archive.ts',
  'guests/linux/cpio.ts',
  INIT,
  COUNTED,
  ...PROGRAM_NAMES.map((name) => PROGRAMS[name].source),
];

/** A folder with the benchmark's programs. */
export function buildPrograms(width: Width): Promise<string> {
  return cachedFolder(`bench/programs-${width}-${hashOf([], RECIPE)}`, async (work) => {
    for (const name of PROGRAM_NAMES) {
      const { source, flags } = PROGRAMS[name];
      await runProgram('gcc', [
        `-m${width}`,
        '-O2',
        ...flags,
        '-o',
        join(work, name),
        join(REPOSITORY, source),
      ]);
    }
  });
}

const MODE = 0o755;
const folder = (name: string): CpioEntry => ({ type: 'folder', name, mode: MODE });
const program = (name: string, path: string): CpioEntry => ({
  type: 'file',
  name,
  mode: MODE,
  bytes: readFileSync(path),
});

/** Path of the compressed archive, of a guest that runs the script and powers off. */
export async function buildArchive(width: Width, script: string): Promise<string> {
  const busybox = await packagesRoot(ARCHITECTURES[width], I386_PACKAGES.busybox);
  const programs = await buildPrograms(width);
  const built = await cachedFolder(`bench/archive-${width}-${hashOf([script], RECIPE)}`, async (work) => {
    const entries: CpioEntry[] = [
      folder('dev'),
      // The kernel opens it before /init.
      { type: 'device', name: 'dev/console', mode: 0o600, number: [5, 1] },
      folder('bin'),
      program('init', join(REPOSITORY, INIT)),
      program('bin/busybox', join(busybox, 'bin/busybox')),
      { type: 'link', name: 'bin/sh', to: 'busybox' },
      ...PROGRAM_NAMES.map((name) => program(`bin/${name}`, join(programs, name))),
      { type: 'file', name: 'script', mode: 0o644, bytes: Buffer.from(script) },
    ];
    await writeFile(join(work, 'initramfs.gz'), gzipSync(cpioArchive(entries), { level: 6 }));
  });
  return join(built, 'initramfs.gz');
}
