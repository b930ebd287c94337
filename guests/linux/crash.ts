/**
 * Debian's `crash` for i386, which looks into dumps of kernels, and what it has
 * to know of one of Debian's kernels: downloaded, and never installed.
 */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cachedFolder } from '../cache.ts';
import { runProgram, step } from '../steps.ts';
import { downloadPackages, i386Root } from './debian.ts';

/** The program and all that it links. */
const PACKAGES = [
  'crash',
  'libc6',
  'libgcc-s1',
  'libgmp10',
  'liblzma5',
  'liblzo2-2',
  'libmpfr6',
  'libncursesw6',
  'libsnappy1v5',
  'libstdc++6',
  'libtinfo6',
  'libzstd1',
  'zlib1g',
];

/** What comes before its arguments. */
export async function crashCommand(): Promise<readonly [program: string, ...args: string[]]> {
  const root = await i386Root(PACKAGES);
  const libraries = ['lib', 'usr/lib'].map((folder) => join(root, folder, 'i386-linux-gnu'));
  return [
    join(root, 'lib/ld-linux.so.2'),
    '--library-path',
    libraries.join(':'),
    join(root, 'usr/bin/crash'),
  ];
}

const SYMBOL = 'sys_open';
/** What Linux for i386 has called it since 5.7. */
const RENAMED = `__ia32_${SYMBOL}`;

/** Where nm finds a function of .text: its offset there. */
async function offsetInText(vmlinux: string, name: string): Promise<number> {
  const addresses = new Map<string, number>();
  await runProgram('nm', [vmlinux], {
    onLine: (line) => {
      const [address, , symbol] = line.split(' ');
      if (symbol === name || symbol === '_text') addresses.set(symbol, Number.parseInt(address!, 16));
    },
  });
  return addresses.get(name)! - addresses.get('_text')!;
}

/**
 * The kernel of a release (`uname -r`) with its debugging information, and with
 * a symbol that crash 8.0 does not go without.
 */
export async function debugKernel(release: string): Promise<string> {
  const folder = await cachedFolder(`linux/debug-${release}`, (work) =>
    step(`Downloading what debuggers know of Linux ${release}`, async (report) => {
      const [archive] = await downloadPackages('i386', [`linux-image-${release}-dbg`], work);
      report('unpacking');
      const stored = join(work, 'stored');
      const path = `./usr/lib/debug/boot/vmlinux-${release}`;
      // Without its modules, which are most of it.
      const script = 'dpkg-deb --fsys-tarfile "$1" | tar -xO --occurrence=1 "$2" > "$3"';
      await runProgram('sh', ['-c', script, 'sh', archive!, path, stored]);
      const symbol = `${SYMBOL}=.text:${await offsetInText(stored, RENAMED)},function,global`;
      await runProgram('objcopy', ['--add-symbol', symbol, stored, join(work, 'vmlinux')]);
      for (const name of [archive!, stored]) await rm(name);
    }),
  );
  return join(folder, 'vmlinux');
}
