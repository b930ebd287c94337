/**
 * Packages of the machine's own Debian mirror, unpacked into the cache and
 * never installed. Which mirror that is, apt knows.
 */

import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../src/elf/input-error.ts';
import { plural } from '../../src/report/table.ts';
import { cacheRoot } from '../../src/targets/wedge-build.ts';
import { cachedFolder, hashOf } from '../cache.ts';
import { runProgram, step } from '../steps.ts';

const KERNEL_SOURCE = 'linux-source-6.1';

/** Programs and libraries of Debian i386 that run in the guest. */
export const I386_PACKAGES = {
  busybox: ['busybox-static'],
  /** bash and coreutils with all that they link. */
  glibc: [
    'bash',
    'coreutils',
    'libacl1',
    'libattr1',
    'libc6',
    'libgmp10',
    'libpcre2-8-0',
    'libselinux1',
    'libtinfo6',
  ],
} as const;

/** The downloads run as this user: apt's own may not write to the cache. */
const COMMON = ['-q', '-o', 'APT::Sandbox::User=root', '-o', 'Acquire::Retries=3'];

/** Packages in a folder, without their index. */
const archives = (folder: string): string[] => readdirSync(folder).filter((name) => name.endsWith('.deb'));

/**
 * Runs an apt command that downloads packages; if apt does not know them or
 * has stale indexes, once again with fresh ones. Of these one may fail while
 * the mirror is updated: what counts is whether the packages come.
 */
async function fetchBy(options: readonly string[], get: readonly string[], cwd: string): Promise<void> {
  const apt = (args: readonly string[], mayFail: boolean): Promise<boolean> =>
    runProgram('apt-get', [...COMMON, ...options, ...args], { cwd, mayFail }).then(
      () => true,
      (error) => {
        if (mayFail) return false;
        throw error;
      },
    );
  if (await apt(get, true)) return;
  await apt(['update'], true);
  await apt(get, false);
}

const download = (options: readonly string[], packages: readonly string[], cwd: string): Promise<void> =>
  fetchBy(options, ['download', ...packages], cwd);

export interface SourcePackage {
  /** Of the file. */
  readonly path: string;
  readonly version: string;
}

/** The kernel's source package, downloaded once: a later run needs no network and builds the same. */
export async function kernelPackage(): Promise<SourcePackage> {
  const folder = await cachedFolder(`linux/${KERNEL_SOURCE}`, (work) =>
    step(`Downloading ${KERNEL_SOURCE}`, () => download([], [KERNEL_SOURCE], work)),
  );
  const name = archives(folder)[0];
  if (!name) throw new InputError(`${folder} holds no package`, 'remove it, so that it is downloaded again');
  return { path: join(folder, name), version: name.split('_')[1] ?? name };
}

/** The kernel's source tree as Debian publishes it; never written to. */
export async function kernelSource({ path, version }: SourcePackage): Promise<string> {
  const folder = await cachedFolder(`linux/source-${hashOf([version])}`, (work) =>
    step(`Unpacking ${KERNEL_SOURCE} ${version}`, async () => {
      await runProgram('dpkg-deb', ['-x', path, join(work, 'package')]);
      const tarball = join(work, 'package/usr/src', `${KERNEL_SOURCE}.tar.xz`);
      await runProgram('tar', ['--strip-components=1', '--one-top-level=tree', '-xf', tarball], {
        cwd: work,
      });
      await rm(join(work, 'package'), { recursive: true });
    }),
  );
  return join(folder, 'tree');
}

export type Architecture = 'i386' | 'amd64';

/**
 * apt with the machine's sources but its own state: it sees one architecture
 * only, and nothing of it is installed.
 */
function privateOptions(architecture: Architecture, root: string): string[] {
  for (const folder of ['state/lists/partial', 'cache/archives/partial'])
    mkdirSync(join(root, folder), { recursive: true });
  const status = join(root, 'status');
  writeFileSync(status, '');
  const settings = {
    'APT::Architecture': architecture,
    'APT::Architectures': architecture,
    'Dir::State': join(root, 'state'),
    'Dir::State::status': status,
    'Dir::Cache': join(root, 'cache'),
  };
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`]);
}

/** Packages of one architecture, and all that they depend on, downloaded into a folder; their paths. */
export async function downloadWithDependencies(
  architecture: Architecture,
  packages: readonly string[],
  folder: string,
): Promise<string[]> {
  mkdirSync(join(folder, 'partial'));
  const options = [
    ...privateOptions(architecture, join(cacheRoot(), `linux/apt-${architecture}`)),
    ...['-o', `Dir::Cache::archives=${folder}`],
  ];
  const install = ['install', '--yes', '--download-only', '--no-install-recommends', ...packages];
  await fetchBy(options, install, folder);
  return archives(folder).map((name) => join(folder, name));
}

/** Packages of one architecture, without what they depend on, downloaded into a folder; their paths. */
export async function downloadPackages(
  architecture: Architecture,
  packages: readonly string[],
  folder: string,
): Promise<string[]> {
  const state = join(cacheRoot(), `linux/apt-${architecture}`);
  await download(privateOptions(architecture, state), packages, folder);
  return archives(folder).map((name) => join(folder, name));
}

/** A folder with packages of one architecture unpacked over each other. */
export function packagesRoot(architecture: Architecture, packages: readonly string[]): Promise<string> {
  return cachedFolder(`linux/${architecture}-${hashOf(packages)}`, (work) =>
    step(`Downloading ${plural(packages.length, `${architecture} package`)}`, async (report) => {
      const downloads = join(work, 'dl');
      mkdirSync(downloads);
      const files = await downloadPackages(architecture, packages, downloads);
      report('unpacking');
      for (const file of files) await runProgram('dpkg-deb', ['-x', file, work]);
      await rm(downloads, { recursive: true });
    }),
  );
}

/** A folder with i386 packages unpacked over each other. */
export const i386Root = (packages: readonly string[]): Promise<string> => packagesRoot('i386', packages);
