/** Runs a guest as a domain of its own, which a real toolstack starts: `xl create` in an initial domain of Debian's. */

import { readFile } from 'node:fs/promises';
import { gzipSync } from 'node:zlib';
import type { RunStatus } from '../../src/targets/target.ts';
import { runXen, type XenRun } from '../../src/targets/xen/hypervisor.ts';
import { xlConfig } from '../../src/targets/xen/xl-config.ts';
import { cpioArchive } from '../linux/cpio.ts';
import { buildDom0, DOM0_VERSION, type Dom0 } from './dom0.ts';
import { buildXen } from './hypervisor.ts';

const MiB = 2 ** 20;
/** Bytes of the initial domain beside the guest's files; its kernel alone takes a third. */
const DOM0_MEMORY = 256 * MiB;
/** Bytes that Xen and the toolstack need for a domain beside its memory. */
const DOMAIN_OVERHEAD = 16 * MiB;
/** The initial domain's first disk. */
const DISK = '/dev/vda';
const CONFIG_FILE_MODE = 0o644;

export interface DomURun
  extends Pick<
    XenRun,
    'commandLine' | 'console' | 'attach' | 'starts' | 'ramSize' | 'ready' | 'symbolize' | 'signal' | 'disk'
  > {
  /** Bytes of the burned image. */
  readonly kernel: Uint8Array;
  readonly initrd?: Uint8Array | undefined;
  /** Bytes of the domain's memory. */
  readonly memory: number;
}

/** The initial domain with its Xen. */
export async function buildToolstack(): Promise<{ readonly dom0: Dom0; readonly xen: string }> {
  return { dom0: await buildDom0(), xen: await buildXen(DOM0_VERSION) };
}

/** @throws InputError if the domain cannot be started: with the toolstack's reason, in a line */
export async function runDomU(run: DomURun): Promise<RunStatus> {
  const { dom0, xen } = await buildToolstack();
  const file = (name: string, bytes: Uint8Array) =>
    ({ type: 'file', name: `guest/${name}`, mode: CONFIG_FILE_MODE, bytes }) as const;
  const config = xlConfig({
    name: 'guest',
    kernel: '/guest/kernel',
    ramdisk: run.initrd && '/guest/initrd',
    memory: run.memory,
    commandLine: run.commandLine,
    disk: run.disk && DISK,
    atEnd: 'preserve',
  });
  const archive = cpioArchive([
    { type: 'folder', name: 'guest', mode: 0o755 },
    file('config', Buffer.from(config)),
    file('kernel', run.kernel),
    ...(run.initrd ? [file('initrd', run.initrd)] : []),
  ]);
  return runXen({
    xen,
    kernel: dom0.kernel,
    initrd: Buffer.concat([await readFile(dom0.initramfs), gzipSync(archive, { level: 1 })]),
    commandLine: 'console=hvc0 loglevel=3 panic=1',
    preamble: 'previrt: console',
    memory: DOM0_MEMORY + 2 * archive.length,
    spare: run.memory + DOMAIN_OVERHEAD,
    disk: run.disk,
    console: run.console,
    attach: run.attach,
    starts: run.starts ?? true,
    ramSize: run.ramSize,
    ready: run.ready,
    symbolize: run.symbolize,
    signal: run.signal,
  });
}
