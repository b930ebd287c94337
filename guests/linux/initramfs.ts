/**
 * The guest's first file systems: Debian's busybox for i386 with /init, and a
 * larger one with programs that link glibc dynamically, the benchmark and a stress test, and one with
 * kernel modules, good and bad.
 */

import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { truncate, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { cachedFolder, hashOf, REPOSITORY } from '../cache.ts';
import { runProgram } from '../steps.ts';
import { badAlternatives, badModules } from './bad-modules.ts';
import { type CpioEntry, cpioArchive } from './cpio.ts';
import { I386_PACKAGES, i386Root } from './debian.ts';
import { buildKernel, buildModule } from './kernel.ts';

export const INITRAMFS_NAMES = ['busybox', 'glibc', 'modules'] as const;
export type InitramfsName = (typeof INITRAMFS_NAMES)[number];

const INIT = 'guests/linux/root/init';
const OSBENCH = 'bench/osbench.c';
const STRESS = 'guests/linux/stress.c';
/** What this folder's own code puts into an archive. */
const RECIPE = ['guests/linux/initramfs.ts', 'guests/linux/cpio.ts', 'guests/linux/bad-modules.ts', INIT];

/** Documentation and translations, which no program needs. */
const LEFT_OUT = /^usr\/(share|lib\/i386-linux-gnu\/gconv)(\/|$)/;

/** Everything below a folder as entries of an archive. */
function entriesOf(root: string, path = ''): CpioEntry[] {
  return readdirSync(join(root, path))
    .sort()
    .flatMap((file): CpioEntry[] => {
      const name = join(path, file);
      const status = lstatSync(join(root, name));
      const mode = status.mode & 0o7777;
      if (LEFT_OUT.test(name)) return [];
      if (status.isSymbolicLink()) return [{ type: 'link', name, to: readlinkSync(join(root, name)) }];
      if (status.isDirectory()) return [{ type: 'folder', name, mode }, ...entriesOf(root, name)];
      return [{ type: 'file', name, mode, bytes: readFileSync(join(root, name)) }];
    });
}

const FOLDER_MODE = 0o755;
const PROGRAM_MODE = 0o755;
const folder = (name: string): CpioEntry => ({ type: 'folder', name, mode: FOLDER_MODE });

/** What every archive holds: /init, busybox to run it, and the console, which the kernel opens before /init. */
async function common(): Promise<CpioEntry[]> {
  const busybox = readFileSync(join(await i386Root(I386_PACKAGES.busybox), 'bin/busybox'));
  return [
    folder('dev'),
    { type: 'device', name: 'dev/console', mode: 0o600, number: [5, 1] },
    { type: 'file', name: 'init', mode: PROGRAM_MODE, bytes: readFileSync(join(REPOSITORY, INIT)) },
    { type: 'file', name: 'bin/busybox', mode: PROGRAM_MODE, bytes: busybox },
    { type: 'link', name: 'bin/sh', to: 'busybox' },
  ];
}

/** A program of our own, static, so that no library is measured or tested with it. */
async function program(source: string): Promise<CpioEntry> {
  const name = basename(source, '.c');
  const built = await cachedFolder(`linux/${name}-${hashOf([], [source])}`, async (work) => {
    const flags = ['-m32', '-O2', '-static', '-o', join(work, name)];
    await runProgram('gcc', [...flags, join(REPOSITORY, source)]);
  });
  return { type: 'file', name: `bin/${name}`, mode: PROGRAM_MODE, bytes: readFileSync(join(built, name)) };
}

/** Of the kernel's own tree, by what they are. */
const MODULES = ['minix', 'loop', 'dummy', 'libsha256', 'sha256_generic'] as const;

/** Bytes of an empty file system. */
const MINIX_SIZE = '524288';

/** Modules in /lib, those in /lib/bad with site records that lie. */
async function modules(): Promise<CpioEntry[]> {
  const kernel = await buildKernel('annotated', 'modules');
  const file = (name: string, bytes: Uint8Array): CpioEntry => ({ type: 'file', name, mode: 0o644, bytes });
  const every = readFileSync(await buildModule('annotated'));
  const plain = readFileSync(await buildModule('plain'));
  const image = await cachedFolder(`linux/minix-${hashOf([MINIX_SIZE], [])}`, async (work) => {
    await writeFile(join(work, 'image'), '');
    await truncate(join(work, 'image'), Number(MINIX_SIZE));
    await runProgram('mkfs.minix', [join(work, 'image')]);
  });
  return [
    folder('lib'),
    folder('lib/bad'),
    ...MODULES.map((name) => file(`lib/${name}.ko`, readFileSync(kernel.module(name)))),
    file('lib/minix.img', readFileSync(join(image, 'image'))),
    file('lib/every.ko', every),
    file('lib/plain.ko', plain),
    file('lib/bad/alternatives.ko', badAlternatives(plain)),
    ...[...badModules(every)].map(([name, bytes]) => file(`lib/bad/${name}.ko`, bytes)),
  ];
}

const CONTENTS: Readonly<Record<InitramfsName, () => Promise<CpioEntry[]>>> = {
  busybox: async () => [folder('bin'), ...(await common())],
  modules: async () => [folder('bin'), ...(await common()), ...(await modules())],
  glibc: async () => [
    ...entriesOf(await i386Root(I386_PACKAGES.glibc)),
    ...(await common()),
    await program(OSBENCH),
    await program(STRESS),
  ],
};

/** Path of the compressed archive; with a script, of one that runs it and powers off. */
export async function buildInitramfs(name: InitramfsName, script?: string): Promise<string> {
  const ours = name === 'modules' ? [await buildModule('annotated'), await buildModule('plain')] : [];
  const key = hashOf(
    [name, script ?? '', ...ours, JSON.stringify(I386_PACKAGES)],
    [...RECIPE, OSBENCH, STRESS],
  );
  const built = await cachedFolder(`linux/initramfs-${name}-${key}`, async (work) => {
    const entries = await CONTENTS[name]();
    if (script !== undefined)
      entries.push({ type: 'file', name: 'script', mode: 0o644, bytes: Buffer.from(script) });
    await writeFile(join(work, 'initramfs.gz'), gzipSync(cpioArchive(entries), { level: 6 }));
  });
  return join(built, 'initramfs.gz');
}
