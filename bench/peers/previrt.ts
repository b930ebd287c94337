/** The annotated kernel: as a process of this host, and on the PC that QEMU emulates. */

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from '../../guests/cache.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { runProgram } from '../../guests/steps.ts';
import { MEBIBYTE } from '../../src/machine/virtual-pc.ts';
import { buildXenWedge } from '../../src/targets/xen/build.ts';
import { prepareXenBurn } from '../../src/targets/xen/target.ts';
import type { SiteKindName } from '../../src/x86/site-kinds.ts';
import { buildArchive } from '../archive.ts';
import { MEMORY, type Peer } from './peer.ts';

export const PREVIRT = join(REPOSITORY, 'bin/previrt');

/** `previrt run` of an image. */
export async function previrtRun(image: string, target: string, script: string) {
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
    return previrtRun(image, 'hosted', script);
  },
};

export const xen: Peer = {
  name: 'Xen',
  width: 32,
  async command(script) {
    const { vmlinux } = await buildKernel('annotated');
    return previrtRun(vmlinux, 'xen', script);
  },
};

/** Kinds that a processor in ring 2 refuses: without substitutions they trap, and are emulated. */
const TRAPPING: readonly SiteKindName[] = [
  ...(['cli', 'sti', 'hlt', 'mov_from_cr', 'mov_to_cr', 'mov_from_dr', 'mov_to_dr', 'clts', 'lmsw'] as const),
  ...(['lgdt', 'lidt', 'lldt', 'ltr', 'invlpg', 'invd', 'wbinvd', 'invpcid', 'rdmsr', 'wrmsr'] as const),
  ...(['xsetbv', 'sysexit'] as const),
];

export const xenTrapping: Peer = {
  name: 'Xen, trapping',
  width: 32,
  async command(script, folder) {
    const { vmlinux } = await buildKernel('annotated');
    const finish = prepareXenBurn(readFileSync(vmlinux), {
      domains: ['cpu', 'entry'],
      keep: 'table',
      spared: new Set(TRAPPING),
      memory: Number.parseInt(MEMORY, 10) * MEBIBYTE,
      initrd: readFileSync(await buildArchive(32, script)),
      append: '',
    });
    const image = join(folder, 'vmlinux.xen-trapping');
    writeFileSync(image, finish(readFileSync(await buildXenWedge())));
    return { program: PREVIRT, args: ['run', image, '--target', 'xen'] };
  },
};

export const qemu: Peer = {
  name: 'QEMU TCG',
  width: 32,
  async command(script) {
    const { vmlinux } = await buildKernel('annotated');
    return previrtRun(vmlinux, 'bare', script);
  },
};
