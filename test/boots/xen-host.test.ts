/**
 * A guest on a Xen host of somebody's own, by the commands of docs/targets/xen.md: from a file into a
 * domain that the real toolstack starts, and out of it again, from a core that `xl dump-core` has written.
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { REPOSITORY } from '../../guests/cache.ts';
import { type CpioEntry, cpioArchive } from '../../guests/linux/cpio.ts';
import { checkDisk, makeDisk } from '../../guests/linux/disk.ts';
import { buildInitramfs } from '../../guests/linux/initramfs.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { buildDom0, DOM0_VERSION } from '../../guests/xen/dom0.ts';
import { buildXen } from '../../guests/xen/hypervisor.ts';
import { RUN_STATUS } from '../../src/targets/target.ts';
import { runXen } from '../../src/targets/xen/hypervisor.ts';
import { withConsole } from '../xen/console.ts';
import { Guest, PREVIRT } from './guest.ts';
import { POWER_OFF } from './scenarios.ts';

const LIMIT = 120_000;
const TEST_LIMIT = 600_000;
const BUILD_LIMIT = 1_800_000;
const MiB = 2 ** 20;
/** Bytes of the initial domain's memory beside the guest's files, and of what a domain needs beside its own. */
const DOM0_MEMORY = 256 * MiB;
const DOMAIN_OVERHEAD = 16 * MiB;
/** The host's disk: where the guest's disk lies on it, and the core of a domain of some 80 MiB, in bytes. */
const PARTITIONS = [
  { start: 1 * MiB, size: 16 * MiB },
  { start: 32 * MiB, size: 96 * MiB },
] as const;
const [DISK, CORE] = PARTITIONS;

const folder = mkdtempSync(join(tmpdir(), 'previrt-host-'));
const path = (name: string): string => join(folder, name);
let guest: Guest | undefined;
beforeAll(() => void spawnSync(PREVIRT, ['--help']), BUILD_LIMIT);
afterAll(async () => {
  await guest?.close();
  rmSync(folder, { recursive: true, force: true });
});

function previrt(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(PREVIRT, args, { encoding: 'utf8', cwd: folder });
  expect(stderr).toBe('');
  expect(status).toBe(0);
  return stdout;
}

/** A disk with two partitions for Linux, of which the first has a content. */
function makeHostDisk(content: Uint8Array): void {
  const disk = Buffer.alloc(CORE.start + CORE.size);
  const SECTOR = 512;
  PARTITIONS.forEach(({ start, size }, index) => {
    const entry = disk.subarray(446 + index * 16);
    entry.writeUInt8(0x83, 4);
    entry.writeUInt32LE(start / SECTOR, 8);
    entry.writeUInt32LE(size / SECTOR, 12);
  });
  disk.writeUInt16LE(0xaa55, SECTOR - 2);
  disk.set(content, DISK.start);
  writeFileSync(path('host-disk'), disk);
}

/** What is in a partition now, in a file of its own. */
function takePartition({ start, size }: (typeof PARTITIONS)[number], name: string): void {
  writeFileSync(path(name), readFileSync(path('host-disk')).subarray(start, start + size));
}

/** A guest that counts, on its console and its disk, and has a file in its memory. */
async function makeState(): Promise<void> {
  const { vmlinux } = await buildKernel('annotated', 'usual');
  const machine = ['--memory', '64M', '--cpu', 'pentium3', '--initrd', await buildInitramfs('glibc')];
  mkdirSync(path('content'));
  await makeDisk(path('disk'), DISK.size, path('content'));
  guest = new Guest([vmlinux, ...machine, '--control', path('control'), '--disk', path('disk')]);
  await guest.expect(/guest# /, LIMIT);
  guest.send('mkdir -p /mnt && mount -t ext2 /dev/vda /mnt\n');
  await guest.expect(/guest# /, LIMIT);
  guest.send('echo kept > /tmp/file\n');
  await guest.expect(/guest# /, LIMIT);
  guest.send('(n=0; while :; do n=$((n+1)); echo $n > /mnt/n; sync; echo tick $n; sleep 0.2; done) &\n');
  await guest.expect(/^tick 3\r$/m, LIMIT);
  previrt('snapshot', 'control', '--end', '-o', 'state');
  expect((await guest.end(LIMIT)).status).toBe(RUN_STATUS.done);
}

/** Does what host.sh says on a Xen host; what its console had. */
async function onHost(config: string): Promise<string> {
  const dom0 = await buildDom0();
  const file = (name: string, bytes: Uint8Array): CpioEntry => ({
    type: 'file',
    name: `guest/${name}`,
    mode: 0o644,
    bytes,
  });
  const archive = cpioArchive([
    { type: 'folder', name: 'guest', mode: 0o755 },
    file('config', Buffer.from(config)),
    file('image', readFileSync(path('guest'))),
    file('script', readFileSync(join(REPOSITORY, 'test/xen/host.sh'))),
  ]);
  const memory = Number(/^memory = (\d+)$/m.exec(config)![1]) * MiB;
  const { status, output } = await withConsole('', async (console) =>
    runXen({
      xen: await buildXen(DOM0_VERSION),
      kernel: dom0.kernel,
      initrd: Buffer.concat([readFileSync(dom0.initramfs), gzipSync(archive, { level: 1 })]),
      commandLine: 'console=hvc0 loglevel=3 panic=1',
      memory: DOM0_MEMORY + 2 * archive.length,
      spare: memory + DOMAIN_OVERHEAD,
      disk: path('host-disk'),
      console,
      signal: AbortSignal.timeout(TEST_LIMIT / 2),
    }),
  );
  expect(status, output).toBe(RUN_STATUS.done);
  return output;
}

it(
  'from a file into a domain of xl, and from its core to a process',
  async () => {
    await makeState();
    previrt('burn', 'state', '--target', 'xen', '-o', 'guest');
    const config = previrt('xl-config', 'guest', '--disk', '/dev/vda1').replace(
      path('guest'),
      '/guest/image',
    );
    makeHostDisk(readFileSync(path('disk')));
    const output = await onHost(config);
    const last = /^tick (\d+)\r?\nthe domain is gone\r?$/m.exec(output);
    expect(last, output).not.toBeNull();

    takePartition(DISK, 'disk');
    takePartition(CORE, 'core');
    previrt('snapshot', 'core', '-o', 'later');
    guest = new Guest([path('later'), '--disk', path('disk')], 'resume');
    const [, tick] = await guest.expect(/^tick (\d+)\r$/m, LIMIT);
    expect(Number(tick)).toBe(Number(last![1]) + 1);
    guest.send(
      `kill %1; wait; cat /tmp/file; echo $(($(cat /mnt/n) >= ${tick})) on disk; umount /mnt && echo off\n`,
    );
    await guest.expect(/^kept\r$/m, LIMIT);
    await guest.expect(/^1 on disk\r\noff\r$/m, LIMIT);
    guest.send(`${POWER_OFF[0]}\n`);
    expect((await guest.end(LIMIT)).status).toBe(RUN_STATUS.done);
    await checkDisk(path('disk'));
  },
  TEST_LIMIT,
);
