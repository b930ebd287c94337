/** crash, of Debian for i386, opens the machine state of Debian's own kernel. */

import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { crashCommand, debugKernel } from '../../guests/linux/crash.ts';
import { type StockKernel, stockKernel } from '../../guests/linux/stock.ts';
import { request } from '../../src/cli/control.ts';
import { Guest, PREVIRT } from './guest.ts';

const LIMIT = 120_000;
const BUILD_LIMIT = 1_800_000;
const run = promisify(execFile);

const folder = mkdtempSync(join(tmpdir(), 'previrt-crash-'));
const state = join(folder, 'state');
let kernel: StockKernel;

beforeAll(async () => {
  kernel = await stockKernel('686');
  const image = join(folder, 'burned');
  execFileSync(PREVIRT, ['burn', '--from-binary', kernel.vmlinuz, '--target', 'hosted', '--output', image]);
  const control = join(folder, 'control');
  const options = ['--initrd', kernel.initramfs, '--memory', '512M', '--append', 'break=mount'];
  const guest = new Guest([image, ...options, '--control', control]);
  try {
    await guest.expect(/\(initramfs\) /, LIMIT);
    guest.send('modprobe ext4; hostname told; echo a line of ours > /dev/kmsg; echo do""ne\n');
    await guest.expect(/^done\r$/m, LIMIT);
    await request(control, { snapshot: { file: state, compress: false } });
  } finally {
    await guest.close();
  }
}, BUILD_LIMIT);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it(
  "shows the kernel's name, log, modules, and a stack",
  async () => {
    const commands = join(folder, 'commands');
    writeFileSync(commands, 'sys\nlog\nmod\nbt\nquit\n');
    const [crash, ...before] = await crashCommand();
    const args = [...before, '--no_scroll', '-s', '-i', commands, await debugKernel(kernel.release), state];
    const { stdout } = await run(crash, args, { env: { ...process.env, TERM: 'dumb' } });
    expect(stdout).toMatch(new RegExp(`^ +RELEASE: ${kernel.release}$`, 'm'));
    expect(stdout).toMatch(/^ +NODENAME: told$/m);
    expect(stdout).toMatch(/^ +MEMORY: 511\.\d MB$/m);
    expect(stdout).toMatch(/\] a line of ours$/m);
    expect(stdout).toMatch(/^[0-9a-f]{8} {2}ext4 /m);
    // The idle task always stands there.
    expect(stdout).toMatch(/\] do_idle at [0-9a-f]{8}$/m);
  },
  LIMIT,
);
