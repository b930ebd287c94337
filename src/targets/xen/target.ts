/** The Xen target: a paravirtualized domain of the real hypervisor, which itself runs under QEMU. */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { parseElf } from '../../elf/image.ts';
import { InputError } from '../../elf/input-error.ts';
import { linkOffset } from '../../machine/boot-plan.ts';
import { burn } from '../../substitution/burn.ts';
import { readBurnInfo, readPatchTable } from '../../substitution/burn-info.ts';
import { DOMAINS, type DomainName } from '../../x86/site-kinds.ts';
import { prepareBoot } from '../boot.ts';
import type { Check, RunOptions, RunStatus, Target } from '../target.ts';
import { buildXenWedge } from './build.ts';
import { runXen, type XenRun } from './hypervisor.ts';
import { xenImage } from './image.ts';

const ALL_DOMAINS = Object.keys(DOMAINS) as DomainName[];

const MiB = 2 ** 20;
/**
 * Bytes of a domain beside the guest's RAM: the wedge, the page tables that it
 * fills, and Xen's and its own lists of the domain's pages.
 */
const overhead = (ram: number): number => 16 * MiB + Math.ceil(ram / 256 / MiB) * MiB;

/** What a domain is started from. */
export interface XenDomain extends Pick<XenRun, 'console' | 'signal'> {
  /** For Xen's domain builder. */
  readonly kernel: Uint8Array;
  /** Bytes of the domain's memory. */
  readonly memory: number;
  readonly commandLine: string;
  /** Path of the disk's image. */
  readonly disk?: string | undefined;
}

/** @throws InputError if image and options cannot be run on Xen */
export async function prepareDomain(options: RunOptions): Promise<XenDomain> {
  const info = readBurnInfo(options.elf);
  if (info && info.target !== 'xen')
    throw new InputError(`the image is burned for ${info.target}, not for xen`, 'unburn it first');
  const wedge = readFileSync(await buildXenWedge());
  const burned = info
    ? options.elf
    : parseElf(burn(options.elf.bytes, { target: 'xen', domains: ALL_DOMAINS, keep: 'table', wedge }));
  const { plan, panicPattern } = prepareBoot(burned, options);
  return {
    kernel: xenImage({
      wedge,
      plan,
      ramSize: options.memory,
      sites: readPatchTable(burned),
      linkOffset: linkOffset(burned),
      panicPattern: panicPattern ?? '',
    }),
    memory: options.memory + overhead(options.memory),
    // The guest's own is part of the image.
    commandLine: '',
    console: options.console,
    signal: options.signal,
    disk: options.disk,
  };
}

async function check(): Promise<readonly Check[]> {
  const found = (program: string): boolean => !spawnSync(program, ['--version']).error;
  const need = (name: string, ok: boolean, advice: string): Check => ({
    name,
    ok,
    found: ok ? 'found' : 'missing',
    advice,
  });
  return [
    need('qemu-system-x86_64', found('qemu-system-x86_64'), 'install qemu-system-x86'),
    need('gcc', found('gcc'), 'install gcc and gcc-multilib'),
  ];
}

/** How a prepared domain is run. */
export type DomainRunner = (domain: XenDomain) => Promise<RunStatus>;

/** `hypervisor` finds Xen; `unprivileged` starts a domain with a toolstack, if that can be done with this Xen. */
export const xenTarget = (hypervisor: () => Promise<string>, unprivileged?: DomainRunner): Target => ({
  name: 'xen',
  check,
  async run(options) {
    const initial = options.domain !== 'domU';
    if (initial && options.disk !== undefined)
      throw new InputError('the initial domain has no disk: nobody serves it', 'take --domain domU');
    if (!initial && !unprivileged)
      throw new InputError('there is no toolstack for this version of Xen', 'take another --machine');
    const domain = await prepareDomain(options);
    return initial ? runXen({ ...domain, xen: await hypervisor() }) : unprivileged!(domain);
  },
});
