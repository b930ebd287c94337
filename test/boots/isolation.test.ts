/** A kernel with page tables of their own for user code, which do not show it: burned again and stopped while that runs. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { stockKernel } from '../../guests/linux/stock.ts';
import { request } from '../../src/cli/control.ts';
import type { Reburned } from '../../src/targets/command.ts';
import { RUN_STATUS } from '../../src/targets/target.ts';
import { Guest, PREVIRT } from './guest.ts';

const BUILD_LIMIT = 1_800_000;
const TEST_LIMIT = 600_000;
const LIMIT = 90_000;
/** On hosted, mappings come and go with every system call. */
const BOOT_LIMIT = 240_000;

const PROMPT = /\(initramfs\) /;
const WORK = 'modprobe ext4 && seq 1 20000 | md5sum\n';
const DONE = /^e071f707df7bbeee2a6a1eb48011ddd0/m;

const folder = mkdtempSync(join(tmpdir(), 'previrt-isolation-'));
const at = (name: string): string => join(folder, name);
let guest: Guest | undefined;
let initramfs: string;

beforeAll(async () => {
  const kernel = await stockKernel('686-pae');
  initramfs = kernel.initramfs;
  execFileSync(PREVIRT, [
    'burn',
    '--from-binary',
    kernel.vmlinuz,
    '--target',
    'hosted',
    '--output',
    at('image'),
  ]);
}, BUILD_LIMIT);
afterEach(() => guest?.close());
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it(
  'is burned again while user code runs, and goes to bare metal from there',
  async () => {
    const options = ['--initrd', initramfs, '--memory', '512M', '--append', 'break=mount pti=on'];
    guest = new Guest([at('image'), ...options, '--cpu', 'pentium3', '--control', at('control')]);
    await guest.expect(PROMPT, BOOT_LIMIT);
    guest.send('dmesg | grep isolation:\n');
    await guest.expect(/page tables isolation: force enabled/, LIMIT);
    guest.send(WORK);
    await guest.expect(DONE, LIMIT);
    guest.send('while :; do :; done &\n');
    for (let time = 0; time < 10; time++) {
      const { sites, guests } = await request<Reburned>(at('control'), {
        reburn: ['cpu', 'portio', 'entry'],
      });
      // Some are in what the kernel has freed.
      expect(sites).toBeGreaterThan(5 * guests);
    }
    await request(at('control'), { snapshot: { file: at('state'), compress: false } });
    await guest.close();
    for (const target of ['bare', 'hosted']) {
      guest = new Guest([at('state'), '--target', target], 'resume');
      guest.send(`kill %1; modprobe -r ext4; ${WORK}`);
      await guest.expect(DONE, LIMIT);
      guest.send('poweroff -f\n');
      const { status, output } = await guest.end(LIMIT);
      expect(status).toBe(RUN_STATUS.done);
      expect(output).not.toMatch(/Oops|BUG:|Call Trace|general protection/);
    }
  },
  TEST_LIMIT,
);
