/** Debian's own kernels, never annotated, with Debian's own initramfs and programs. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { checkDisk, makeDisk, readFromDisk } from '../../guests/linux/disk.ts';
import { STOCK_DISK_SIZE, type StockKernel, stockKernel } from '../../guests/linux/stock.ts';
import { RUN_STATUS } from '../../src/targets/target.ts';
import { Guest, PREVIRT } from './guest.ts';

const BUILD_LIMIT = 1_800_000;
const TEST_LIMIT = 300_000;
const BOOT_LIMIT = 90_000;
const LINE_LIMIT = 30_000;

const INITRAMFS_PROMPT = /\(initramfs\) /;
const BASH_PROMPT = /:\/# /;

type Dialogue = readonly (readonly [typed: string, expected: RegExp])[];

/** All in one line each: the shell's echo of what is typed must not look like the answer. */
const SHELL: Dialogue = [
  ['uname -sm', /^Linux i686\r$/m],
  ['seq 1 20000 | md5sum', /^e071f707df7bbeee2a6a1eb48011ddd0/m],
  // Modules have silent instructions of their own, and so has what they are used by.
  ['modprobe ext4; modprobe virtio_blk; modprobe crc32c_intel; cut -d " " -f 1 /proc/modules', /^ext4\r$/m],
  ['(sleep 1; echo back"ground") & wait', /^background\r$/m],
  ['for i in 1 2 3 4 5 6 7 8; do seq 3000 | md5sum; done | uniq | wc -l', /^1\r$/m],
  ['poweroff -f', /Power down|System halted/],
];

const SYSTEM: Dialogue = [
  ['cut -d " " -f 1 /proc/modules', /^virtio_blk\r$/m],
  ['echo $BASH_VERSION', /^5\.\d/m],
  ['for i in $(seq 50); do /bin/true & done; wait; echo d"on"e', /^done\r$/m],
  ['find /usr/lib/modules -name "*.ko" | wc -l', /^\d{4}\r$/m],
  ['dpkg --version | head -1', /package management program version/],
  ['sha256sum /bin/bash > /sum; sync; mount -o remount,ro / && echo read"only"', /^readonly\r$/m],
  ['busybox poweroff -f', /Power down|System halted/],
];

describe("Debian's own kernel", () => {
  const folder = mkdtempSync(join(tmpdir(), 'previrt-stock-'));
  let guest: Guest | undefined;
  let kernel: StockKernel;
  beforeAll(async () => {
    kernel = await stockKernel('686');
  }, BUILD_LIMIT);
  afterEach(() => guest?.close());
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  function burn({ vmlinuz, initramfs }: StockKernel, target: string, ...more: readonly string[]): string {
    const image = join(folder, `${target}-${more.length}`);
    const given = target === 'xen' ? ['--initrd', initramfs, '--memory', '512M'] : [];
    const args = ['burn', '--from-binary', vmlinuz, '--target', target, ...given, ...more, '--output', image];
    const text = execFileSync(PREVIRT, args, { encoding: 'utf8' });
    expect(text).toMatch(/all of it decoded/);
    return image;
  }

  async function play(
    args: readonly string[],
    prompt: RegExp,
    dialogue: Dialogue,
    patience = 1,
  ): Promise<void> {
    guest = new Guest(args);
    await guest.expect(prompt, BOOT_LIMIT * patience);
    for (const [typed, expected] of dialogue) {
      guest.send(`${typed}\n`);
      await guest.expect(expected, LINE_LIMIT * patience);
    }
    const { status, output } = await guest.end(BOOT_LIMIT);
    expect(status).toBe(RUN_STATUS.done);
    expect(output).not.toMatch(/Oops|BUG:|Call Trace|general protection/);
  }

  it(
    "reaches the shell of Debian's initramfs, hosted",
    () =>
      play(
        [burn(kernel, 'hosted'), '--initrd', kernel.initramfs, '--memory', '512M', '--append', 'break=mount'],
        INITRAMFS_PROMPT,
        SHELL,
      ),
    TEST_LIMIT,
  );

  it(
    'runs a system from its disk, hosted, and leaves the disk clean',
    async () => {
      const disk = join(folder, 'disk');
      await makeDisk(disk, STOCK_DISK_SIZE, kernel.root);
      const options = ['--initrd', kernel.initramfs, '--memory', '512M', '--disk', disk];
      await play(
        [burn(kernel, 'hosted'), ...options, '--append', 'root=/dev/vda rw init=/bin/bash'],
        BASH_PROMPT,
        SYSTEM,
      );
      await checkDisk(disk);
      const sum = execFileSync('sha256sum', [join(kernel.root, 'bin/bash')], { encoding: 'utf8' });
      expect((await readFromDisk(disk, 'sum')).split(' ')[0]).toBe(sum.split(' ')[0]);
    },
    TEST_LIMIT,
  );

  it(
    'with page tables of three levels as well',
    async () => {
      const pae = await stockKernel('686-pae');
      await play(
        [
          burn(pae, 'hosted', '--keep', 'copy'),
          '--initrd',
          pae.initramfs,
          '--memory',
          '1G',
          '--append',
          'break=mount',
        ],
        INITRAMFS_PROMPT,
        SHELL,
      );
    },
    TEST_LIMIT + BUILD_LIMIT,
  );

  it(
    'runs on Xen',
    () =>
      play([burn(kernel, 'xen', '--append', 'break=mount'), '--target', 'xen'], INITRAMFS_PROMPT, SHELL, 4),
    TEST_LIMIT,
  );

  it('comes back byte for byte: the file it was burned from, or the kernel in it', () => {
    const copied = burn(kernel, 'hosted', '--keep', 'copy');
    const back = join(folder, 'back');
    execFileSync(PREVIRT, ['unburn', copied, '--output', back]);
    expect(readFileSync(back).equals(readFileSync(kernel.vmlinuz))).toBe(true);
    execFileSync(PREVIRT, ['unburn', burn(kernel, 'hosted'), '--output', back]);
    expect(readFileSync(back).subarray(0, 4).toString('latin1')).toBe('\x7fELF');
  });
});
