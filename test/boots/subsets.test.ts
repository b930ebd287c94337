/** Linux with each subset of domains burned: it boots, writes its disk, and what is left out traps. */

import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkDisk, makeDisk, readFromDisk } from '../../guests/linux/disk.ts';
import { buildInitramfs } from '../../guests/linux/initramfs.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import type { Counts } from '../../src/targets/counts.ts';
import { OPTIONAL, SUBSETS } from '../subsets.ts';

const TIMEOUT = 300_000;
const BUILD_LIMIT = 1_800_000;
const PREVIRT = join(import.meta.dirname, '../../bin/previrt');
const run = promisify(execFile);

/** Runs in the guest, + for spaces: mounts the disk, writes to it, forks a little. */
const SCRIPT = [
  'mkdir /mnt',
  'mount -t ext2 /dev/vda /mnt',
  'seq 20000 > /mnt/made',
  'for i in $(seq 20); do /bin/busybox true; done',
  'umount /mnt',
]
  .join(' && ')
  .replaceAll(' ', '+');
const APPEND = `previrt.run=${SCRIPT}`;

let folder: string;
let kernel: string;
let initrd: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'previrt-subsets-'));
  kernel = (await buildKernel('annotated')).vmlinux;
  initrd = await buildInitramfs('busybox');
}, BUILD_LIMIT);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** As readFromDisk gives it: without the last line's end. */
const NUMBERS = Array.from({ length: 20000 }, (_, n) => n + 1).join('\n');

/** Runs a kernel with a disk of its own, and checks both. */
async function boot(image: string, options: readonly string[]): Promise<string> {
  const disk = `${image}.disk`;
  await makeDisk(disk, 8 * 2 ** 20);
  const child = run(PREVIRT, ['run', image, '--disk', disk, ...options], {
    timeout: TIMEOUT,
    maxBuffer: 2 ** 24,
  });
  child.child.stdin?.end();
  const { stdout, stderr } = await child;
  expect(stdout).toMatch(/previrt: script exited 0/);
  expect(stdout).toMatch(/virtio_blk virtio0/);
  await checkDisk(disk);
  expect((await readFromDisk(disk, 'made')) === NUMBERS).toBe(true);
  return stderr;
}

async function burned(target: string, domains: string, options: readonly string[]): Promise<string> {
  const image = join(folder, `${target}-${domains}`);
  await run(PREVIRT, ['burn', kernel, '--target', target, '--domains', domains, ...options, '-o', image]);
  return image;
}

const NAMES = SUBSETS.map((domains) => domains.join());

describe('Linux on hosted with these domains burned', () => {
  it.each(NAMES)(
    '%s',
    async (domains) => {
      const machine = ['--initrd', initrd, '--append', APPEND, '--stats', '--json'];
      const messages = await boot(await burned('hosted', domains, []), machine);
      const counts = JSON.parse(/^\{.*\}$/m.exec(messages)?.[0] ?? '') as Pick<Counts, 'domains'>;
      const of = (name: string) => counts.domains.find(({ domain }) => domain === name)!;
      for (const name of OPTIONAL) {
        const isBurned = domains.split(',').includes(name);
        expect(of(name).sites > 0, name).toBe(isBurned);
        // Page tables are never trapped: changes are found at the next flush.
        const trapped = name === 'pagetable' ? of(name).late : of(name).traps;
        if (isBurned) expect(trapped / of(name).sites, name).toBeLessThanOrEqual(0.01);
        else expect(trapped, name).toBeGreaterThan(20);
      }
    },
    TIMEOUT,
  );
});

describe('Linux on Xen with these domains burned', () => {
  it.each(NAMES)(
    '%s',
    async (domains) => {
      const machine = ['--initrd', initrd, '--append', APPEND];
      await boot(await burned('xen', domains, machine), ['--target', 'xen', '--domain', 'domU']);
    },
    TIMEOUT,
  );
});
