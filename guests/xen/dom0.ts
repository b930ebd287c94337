/**
 * An initial domain that is nothing but Debian's kernel and Xen's toolstack in
 * its first file system (init): it starts one domain by `xl create`, as a Xen
 * host would, and connects its console.
 */

import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { InputError } from '../../src/elf/input-error.ts';
import { cachedFolder, hashOf, REPOSITORY } from '../cache.ts';
import { type CpioEntry, cpioArchive } from '../linux/cpio.ts';
import { runProgram, step } from '../steps.ts';
import { releasePackages, type XenVersion } from './release.ts';

/** The toolstack talks to the hypervisor of its own version only. */
export const DOM0_VERSION: XenVersion = '4.17';

const PACKAGES = [
  ...['busybox-static', 'libc6', 'libgcc-s1', 'liblzma5', 'libuuid1', 'libyajl2', 'libzstd1', 'zlib1g'],
  ...['libxencall1', 'libxendevicemodel1', 'libxenevtchn1', 'libxenforeignmemory1', 'libxengnttab1'],
  ...['libxenhypfs1', 'libxenmisc4.17', 'libxenstore4', 'libxentoolcore1', 'libxentoollog1'],
  ...['xen-utils-4.17', 'xenstore-utils'],
];
const KERNEL_PACKAGE = 'linux-image-amd64';

/** Programs by their path in the packages; all go to /bin. */
const PROGRAMS = [
  'bin/busybox',
  'usr/bin/xenstore',
  ...['xl', 'xenstored', 'xenconsoled', 'xen-init-dom0'].map((name) => `usr/lib/xen-4.17/bin/${name}`),
];
const LOADER = 'lib64/ld-linux-x86-64.so.2';
const LIBRARIES = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'];

/** Modules of the kernel by their folder, in the order in which they are loaded. */
const MODULES = [
  ...['xen/xen-evtchn', 'xen/xen-gntdev', 'xen/xen-gntalloc', 'xen/xen-privcmd', 'xen/xenfs/xenfs'],
  ...['block/xen-blkback/xen-blkback', 'virtio/virtio', 'virtio/virtio_ring'],
  ...[
    'virtio/virtio_pci_legacy_dev',
    'virtio/virtio_pci_modern_dev',
    'virtio/virtio_pci',
    'block/virtio_blk',
  ],
];

/** What libxl runs for a disk, in place of its own script, which needs more of a system. */
const BLOCK_SCRIPT = `#!/bin/sh
[ "$1" = add ] || exit 0
device=$(xenstore read "$XENBUS_PATH/params")
xenstore write "$XENBUS_PATH/physical-device" "$(stat -L -c %t:%T "$device")"
xenstore write "$XENBUS_PATH/hotplug-status" connected
`;

const folder = (name: string): CpioEntry => ({ type: 'folder', name, mode: 0o755 });
const file = (name: string, bytes: Uint8Array, mode = 0o755): CpioEntry => ({
  type: 'file',
  name,
  mode,
  bytes,
});

/** The files and links in a folder, not what is below. */
function flat(root: string, path: string): CpioEntry[] {
  return readdirSync(join(root, path))
    .sort()
    .flatMap((name): CpioEntry[] => {
      const [full, inside] = [join(root, path, name), join(path, name)];
      const status = lstatSync(full);
      if (status.isSymbolicLink()) return [{ type: 'link', name: inside, to: readlinkSync(full) }];
      return status.isFile() ? [file(inside, readFileSync(full))] : [];
    });
}

function contents(root: string, kernelVersion: string): CpioEntry[] {
  const drivers = join(root, 'lib/modules', kernelVersion, 'kernel/drivers');
  const folders = [
    'bin',
    'dev',
    'etc',
    'etc/xen',
    'etc/xen/scripts',
    'lib',
    'lib64',
    'modules',
    'proc',
    'sys',
  ];
  return [
    ...[...folders, 'usr', 'usr/lib', ...LIBRARIES, 'var'].map(folder),
    { type: 'device', name: 'dev/console', mode: 0o600, number: [5, 1] },
    file('init', readFileSync(join(REPOSITORY, INIT))),
    file('etc/xen/xl.conf', Buffer.from('autoballoon="off"\n'), 0o644),
    file('etc/xen/scripts/block', Buffer.from(BLOCK_SCRIPT)),
    { type: 'link', name: 'bin/sh', to: 'busybox' },
    ...PROGRAMS.map((path) => file(join('bin', basename(path)), readFileSync(join(root, path)))),
    { type: 'link', name: LOADER, to: '/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2' },
    ...LIBRARIES.flatMap((path) => flat(root, path)),
    ...MODULES.map((path, index) => {
      const name = `modules/${String(index).padStart(2, '0')}-${basename(path)}.ko`;
      return file(name, readFileSync(join(drivers, `${path}.ko`)), 0o644);
    }),
  ];
}

/** Fields of a bzImage (Documentation/arch/x86/boot.rst): sectors of set-up code, then place and size of the kernel. */
const SETUP_SECTORS = 0x1f1;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;
const SECTOR = 512;

/** The compressed ELF file in a bzImage: Xen starts what is unpacked seconds earlier. */
export function bzImagePayload(image: Buffer): Buffer {
  const start = (image.readUInt8(SETUP_SECTORS) + 1) * SECTOR + image.readUInt32LE(PAYLOAD_OFFSET);
  // Its last word is the size of the unpacked kernel.
  return image.subarray(start, start + image.readUInt32LE(PAYLOAD_LENGTH) - 4);
}

export interface Dom0 {
  /** Path of the kernel, an ELF file. */
  readonly kernel: string;
  /** Path of its first file system; it expects the files of /guest in a second archive behind it. */
  readonly initramfs: string;
}

const INIT = 'guests/xen/init';
const RECIPE = ['guests/xen/dom0.ts', 'guests/xen/release.ts', INIT, 'guests/linux/cpio.ts'];

/** The initial domain, from the cache or built from packages of some 70 MB. */
export async function buildDom0(): Promise<Dom0> {
  const built = await cachedFolder(`xen/dom0-${hashOf([], RECIPE)}`, async (work) => {
    const packages = await releasePackages(DOM0_VERSION, PACKAGES, [KERNEL_PACKAGE]);
    await step('Packing the initial domain', async () => {
      const root = join(work, 'root');
      for (const name of readdirSync(packages))
        await runProgram('dpkg-deb', ['-x', join(packages, name), root]);
      const kernelVersion = readdirSync(join(root, 'lib/modules'))[0];
      if (!kernelVersion)
        throw new InputError(`${packages} holds no kernel`, 'remove it, so that it is downloaded again');
      const image = readFileSync(join(root, `boot/vmlinuz-${kernelVersion}`));
      await writeFile(join(work, 'kernel.xz'), bzImagePayload(image));
      await runProgram('xz', ['--decompress', '--single-stream', join(work, 'kernel.xz')]);
      const archive = gzipSync(cpioArchive(contents(root, kernelVersion)), { level: 6 });
      await writeFile(join(work, 'initramfs.gz'), archive);
      await rm(root, { recursive: true });
    });
  });
  return { kernel: join(built, 'kernel'), initramfs: join(built, 'initramfs.gz') };
}
