/**
 * Debian's own kernels for i386, as its packages have them, never annotated;
 * and the first file system that Debian's own tools make for each, in an i386
 * root made of packages and never installed.
 */

import { chmodSync, existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { InputError } from '../../src/elf/input-error.ts';
import { MEBIBYTE } from '../../src/machine/virtual-pc.ts';
import { cachedFolder, hashOf } from '../cache.ts';
import { runProgram, step } from '../steps.ts';
import { downloadWithDependencies } from './debian.ts';

/** As Debian names them: the second has page tables of three levels. */
export const FLAVOURS = ['686', '686-pae'] as const;
export type Flavour = (typeof FLAVOURS)[number];

/** Bytes of a disk that the root fits on, with room to spare. */
export const STOCK_DISK_SIZE = 640 * MEBIBYTE;

export interface StockKernel {
  readonly vmlinuz: string;
  /** As `uname -r` says it. */
  readonly release: string;
  /** From initramfs-tools, with its usual configuration. */
  readonly initramfs: string;
  /** The root in which it was made: a system small and whole enough to run programs in. */
  readonly root: string;
}

/** What making an initramfs takes; packages that every Debian has are nobody's dependency. */
const PACKAGES = [
  ...['initramfs-tools', 'busybox', 'zstd'],
  ...[
    'bash',
    'coreutils',
    'dash',
    'dpkg',
    'findutils',
    'grep',
    'gzip',
    'libc-bin',
    'mount',
    'sed',
    'util-linux',
  ],
];

/** Since Debian 12 these are links. */
const MERGED = ['bin', 'sbin', 'lib'];

/** Packages over each other, as dpkg would lay them out. */
async function unpack(archives: readonly string[], root: string): Promise<void> {
  for (const name of MERGED) {
    mkdirSync(join(root, 'usr', name), { recursive: true });
    symlinkSync(`usr/${name}`, join(root, name));
  }
  const script = 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"';
  for (const archive of archives) await runProgram('sh', ['-c', script, 'sh', archive, root]);
}

/** Debian's kernel of a flavour, from the cache or downloaded, with its initramfs. */
export async function stockKernel(flavour: Flavour): Promise<StockKernel> {
  const packages = [`linux-image-${flavour}`, ...PACKAGES];
  const folder = await cachedFolder(`linux/stock-${flavour}-${hashOf(packages)}`, (work) =>
    step(`Making Debian's kernel ${flavour} with its initramfs`, async (report) => {
      if (process.getuid?.() !== 0)
        throw new InputError("Debian's tools make an initramfs as root only", 'run this once as root');
      const downloads = join(work, 'dl');
      const root = join(work, 'root');
      mkdirSync(downloads);
      report('downloading');
      const archives = await downloadWithDependencies('i386', packages, downloads);
      report('unpacking');
      await unpack(archives, root);
      await rm(downloads, { recursive: true });
      report('mkinitramfs');
      const inRoot = (program: string, ...args: string[]) => runProgram('chroot', [root, program, ...args]);
      await inRoot('/sbin/ldconfig');
      const image = '/boot/initrd.img';
      await inRoot('/usr/sbin/mkinitramfs', '-o', image, releaseIn(root));
      chmodSync(join(root, image), 0o644);
    }),
  );
  const root = join(folder, 'root');
  const release = releaseIn(root);
  return {
    vmlinuz: join(root, `boot/vmlinuz-${release}`),
    release,
    initramfs: join(root, 'boot/initrd.img'),
    root,
  };
}

/** @throws InputError if the root has no kernel */
function releaseIn(root: string): string {
  const modules = join(root, 'usr/lib/modules');
  const release = existsSync(modules) ? readdirSync(modules)[0] : undefined;
  if (release === undefined)
    throw new InputError(`${root} has no kernel`, 'remove it, so that it is made again');
  return release;
}
