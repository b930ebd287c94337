/** The annotated kernel: as a process of this host, and on the PC that QEMU emulates. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from '../../guests/cache.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { runProgram } from '../../guests/steps.ts';
import { buildArchive } from '../archive.ts';
import { MEMORY, type Peer } from './peer.ts';

const PREVIRT = join(REPOSITORY, 'bin/previrt');

/** `previrt run` of an image. */
async function run(image: string, target: string, script: string) {
  const initrd = await buildArchive(32, script);
  const options = ['--target', target, '--memory', MEMORY, '--initrd', initrd];
  return { program: PREVIRT, args: ['run', image, ...options] };
}

export const hosted: Peer = {
  name: 'hosted',
  width: 32,
  async command(script, folder) {
    const { vmlinux } = await buildKernel('annotated');
    const image = join(folder, 'vmlinux.hosted');
    if (!existsSync(image))
      await runProgram(PREVIRT, ['burn', vmlinux, '--target', 'hosted', '--output', image]);
    return run(image, 'hosted', script);
  },
};

export const qemu: Peer = {
  name: 'QEMU TCG',
  width: 32,
  async command(script) {
    const { vmlinux } = await buildKernel('annotated');
    return run(vmlinux, 'bare', script);
  },
};
