/**
 * A guest on a Xen host of somebody's own, by the commands of docs/targets/xen.md: from a file into a
 * domain that the real toolstack starts, and out of it again, from a core that `xl dump-core` has written.
 */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { REPOSITORY } from '../../guests/cache.ts';
import { type CpioEntry, cpioArchive } from '../../guests/linux/cpio.ts';
import { buildInitramfs } from '../../guests/linux/initramfs.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { buildDom0, DOM0_VERSION } from '../../guests/xen/dom0.ts';
import { buildXen } from '../../guests/xen/hypervisor.ts';
import { request } from '../../src/cli/control.ts';
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
/** Bytes of the disk for the core of a domain of some 80 MiB. */
const CORE_SIZE = 96 * MiB;

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

/** A guest that counts, and has a file. */
async function makeState(): Promise<void> {
  const { vmlinux } = await buildKernel('annotated', 'usual');
  const machine = ['--memory', '64M', '--cpu', 'pentium3', '--initrd', await buildInitramfs('glibc')];
  guest = new Guest([vmlinux, ...machine, '--control', path('control')]);
  await guest.expect(/guest# /, LIMIT);
  guest.send('echo kept > /tmp/file\n');
  await guest.expect(/guest# /, LIMIT);
  guest.send('(n=0; while :; do n=$((n+1)); echo tick $n; sleep 0.2; done) &\n');
  await guest.expect(/^tick 3\r$/m, LIMIT);
  await request(path('control'), { snapshot: { file: path('state'), compress: false } });
  await guest.close();
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
  writeFileSync(path('core'), '');
  truncateSync(path('core'), CORE_SIZE);
  const { status, output } = await withConsole('', async (console) =>
    runXen({
      xen: await buildXen(DOM0_VERSION),
      kernel: dom0.kernel,
      initrd: Buffer.concat([readFileSync(dom0.initramfs), gzipSync(archive, { level: 1 })]),
      commandLine: 'console=hvc0 loglevel=3 panic=1',
      memory: DOM0_MEMORY + 2 * archive.length,
      spare: memory + DOMAIN_OVERHEAD,
      disk: path('core'),
      console,
      signal: AbortSignal.timeout(90_000),
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
    const config = previrt('xl-config', 'guest').replace(path('guest'), '/guest/image');
    const output = await onHost(config);
    const last = /^tick (\d+)\r?\nthe domain is gone\r?$/m.exec(output);
    expect(last, output).not.toBeNull();

    previrt('snapshot', 'core', '-o', 'later');
    guest = new Guest([path('later')], 'resume');
    const [, tick] = await guest.expect(/^tick (\d+)\r$/m, LIMIT);
    expect(Number(tick)).toBe(Number(last![1]) + 1);
    guest.send('kill %1; cat /tmp/file\n');
    await guest.expect(/^kept\r$/m, LIMIT);
    guest.send(`${POWER_OFF[0]}\n`);
    expect((await guest.end(LIMIT)).status).toBe(RUN_STATUS.done);
  },
  TEST_LIMIT,
);
