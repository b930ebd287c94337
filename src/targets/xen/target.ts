/** The Xen target: a paravirtualized domain of the real hypervisor, which itself runs under QEMU. */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { parseElf } from '../../elf/image.ts';
import { InputError } from '../../elf/input-error.ts';
import { LINUX_PANIC } from '../../machine/linux-boot.ts';
import { nonZeroRuns } from '../../machine/ram.ts';
import type { Machine } from '../../machine/state.ts';
import { type BurnChoice, prepareBurn } from '../../substitution/burn.ts';
import { readBurnInfo } from '../../substitution/burn-info.ts';
import { substituted } from '../../substitution/select.ts';
import type { DomainName } from '../../x86/site-kinds.ts';
import { prepareBoot } from '../boot.ts';
import { awaitedParts, resumeParts } from '../resume-plan.ts';
import { messageFilter } from '../symbolize.ts';
import {
  type Check,
  domainsFor,
  type ReceiveOptions,
  type RunOptions,
  type RunStatus,
  type Target,
} from '../target.ts';
import { buildXenWedge } from './build.ts';
import { runXen, type XenRun } from './hypervisor.ts';
import { checkHandedOver, domainMemory, machineIn, resumeImage, xenImage } from './image.ts';

/** What a domain is started from. */
export interface XenDomain
  extends Pick<XenRun, 'console' | 'signal' | 'symbolize' | 'attach' | 'starts' | 'ramSize' | 'ready'> {
  /** For Xen's domain builder. */
  readonly kernel: Uint8Array;
  /** Bytes of the domain's memory. */
  readonly memory: number;
  readonly commandLine: string;
  /** Path of the disk's image. */
  readonly disk?: string | undefined;
}

export interface XenMachine extends Pick<RunOptions, 'initrd' | 'append' | 'counts' | 'processor'> {
  /** Bytes of guest RAM. */
  readonly memory: number;
  /** Whether commands for the wedge come with the console's input. */
  readonly commands?: boolean;
}

export interface XenBurnOptions extends Omit<BurnChoice, 'target'>, XenMachine {}

/**
 * Burns a kernel together with the machine that it starts on, so that it is a
 * domain; in two steps as `prepareBurn`.
 * @throws InputError as that, or if the machine cannot be prepared
 */
export function prepareXenBurn(
  image: Uint8Array,
  { domains, keep, spared, ...machine }: XenBurnOptions,
): (wedge: Uint8Array) => Uint8Array {
  const counted = !!machine.counts;
  return onMachine(prepareBurn(image, { target: 'xen', domains, keep, spared, counted }), machine);
}

/** Adds the machine that a burned kernel starts on. `finish` burns it, given the wedge. */
export function onMachine(
  finish: (wedge: Uint8Array) => Uint8Array,
  machine: XenMachine,
): (wedge: Uint8Array) => Uint8Array {
  return (wedge) => {
    const burned = parseElf(finish(wedge));
    const { plan, panicPattern } = prepareBoot(burned, machine);
    const commands = machine.commands ?? false;
    return xenImage({
      burned,
      plan,
      ramSize: machine.memory,
      panicPattern: panicPattern ?? '',
      counts: machine.counts,
      processor: machine.processor,
      commands,
    });
  };
}

/** @throws InputError if image and options cannot be run on Xen */
export async function prepareDomain(options: RunOptions): Promise<XenDomain> {
  const { elf, memory, initrd, append, counts } = options;
  const info = readBurnInfo(elf);
  if (info && info.target !== 'xen')
    throw new InputError(`the image is burned for ${info.target}, not for xen`, 'unburn it first');
  if (info && counts)
    throw new InputError(
      'an image burned for xen says itself what it counts',
      'run the kernel as it was before',
    );
  if (info && (machineIn(elf)?.memory !== memory || initrd !== undefined || append !== ''))
    throw new InputError(
      'an image burned for xen has its memory, initrd and arguments in it',
      'give them to previrt burn, or run the kernel as it was before',
    );
  if (info && options.attach)
    throw new InputError('an image burned for xen takes no commands', 'run the kernel as it was before');
  const commands = options.attach !== undefined;
  const kernel = info
    ? elf.bytes
    : prepareXenBurn(elf.bytes, {
        domains: domainsFor(options),
        keep: 'table',
        memory,
        initrd,
        append,
        processor: options.processor,
        counts,
        commands,
      })(readFileSync(await buildXenWedge()));
  return {
    kernel,
    memory: domainMemory(memory),
    // The guest's own is part of the image.
    commandLine: '',
    ramSize: memory,
    console: options.console,
    symbolize: messageFilter(elf, options.told),
    signal: options.signal,
    attach: options.attach,
    disk: options.disk,
  };
}

/**
 * The file of a domain that takes up a guest, for a Xen host.
 * @throws InputError if it is too large to be handed over
 */
export function resumedDomain(
  wedge: Uint8Array,
  machine: Machine,
  domains: readonly DomainName[],
): Uint8Array {
  // Before anything is copied.
  let size = 0;
  for (const { bytes } of nonZeroRuns(machine.ram)) size += bytes.length;
  checkHandedOver(size);
  return resumeImage(wedge, {
    ...resumeParts(machine),
    domains: substituted('xen', domains),
    panicPattern: LINUX_PANIC,
    commands: false,
  });
}

/** A domain that awaits a guest. */
async function prepareReceive({ ramSize, ready, elf, ...options }: ReceiveOptions): Promise<XenDomain> {
  const parts = {
    ...awaitedParts(ramSize),
    domains: substituted('xen', domainsFor(options)),
    panicPattern: LINUX_PANIC,
    commands: options.attach !== undefined,
    counts: options.counts,
  };
  return {
    kernel: resumeImage(readFileSync(await buildXenWedge()), parts),
    memory: domainMemory(ramSize),
    commandLine: '',
    starts: false,
    ramSize,
    ready,
    symbolize: messageFilter(elf, options.told),
    ...options,
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

/** What starts a domain that is not the initial one. */
export interface Toolstack {
  /** Builds it, once. */
  build(): Promise<unknown>;
  run(domain: XenDomain): Promise<RunStatus>;
}

/** `hypervisor` finds Xen, or builds it; `unprivileged` is there if it can be with this Xen. */
export const xenTarget = (hypervisor: () => Promise<string>, unprivileged?: Toolstack): Target => ({
  name: 'xen',
  check,
  async prepare({ domain }) {
    await buildXenWedge();
    await (domain === 'domU' ? unprivileged?.build() : hypervisor());
  },
  run: (options) => start(options, prepareDomain, hypervisor, unprivileged),
  receive: (options) => start(options, prepareReceive, hypervisor, unprivileged),
});

async function start<T extends RunOptions | ReceiveOptions>(
  options: T,
  prepare: (options: T) => Promise<XenDomain>,
  hypervisor: () => Promise<string>,
  unprivileged?: Toolstack,
): Promise<RunStatus> {
  const initial = options.domain !== 'domU';
  if (initial && options.disk !== undefined)
    throw new InputError('the initial domain has no disk: nobody serves it', 'take --domain domU');
  if (!initial && !unprivileged)
    throw new InputError('there is no toolstack for this version of Xen', 'take another --machine');
  const domain = await prepare(options);
  return initial ? runXen({ ...domain, xen: await hypervisor() }) : unprivileged!.run(domain);
}
