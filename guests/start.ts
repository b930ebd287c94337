/**
 * npm start: builds Linux through the annotating toolchain, shows what was
 * annotated, burns it for hosted and boots it: to a shell, or, where standard
 * input is no terminal, through a short script.
 */

import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { cacheRoot } from '../src/targets/wedge-build.ts';
import { REPOSITORY } from './cache.ts';
import { buildInitramfs } from './linux/initramfs.ts';
import { buildKernel } from './linux/kernel.ts';
import { runMain } from './main.ts';

const SCRIPT = `
echo "--- the guest: $(uname -srm)"
grep -m 1 'model name' /proc/cpuinfo
free -m | head -2
echo "--- $(ls /proc | grep -c '^[0-9]') processes, clock source $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
for i in 1 2 3; do (echo "process $i of $$") & done; wait
dd if=/dev/zero bs=1M count=64 2>/dev/null | sha256sum
echo "--- up $(cut -d ' ' -f 1 /proc/uptime) s, powering off"
`;

/** A command of previrt's with our terminal. Its exit status. */
function previrt(...args: readonly string[]): number {
  const shown = args.map((arg) => arg.replace(cacheRoot(), '$CACHE'));
  process.stderr.write(`\n$ previrt ${shown.join(' ')}\n`);
  const { status } = spawnSync(join(REPOSITORY, 'bin/previrt'), args, { stdio: 'inherit' });
  return status ?? 1;
}

await runMain(async () => {
  const interactive = process.stdin.isTTY === true;
  const { vmlinux } = await buildKernel('annotated');
  const initramfs = await buildInitramfs('busybox', interactive ? undefined : SCRIPT);
  const folder = join(cacheRoot(), 'linux/start');
  mkdirSync(folder, { recursive: true });
  const image = join(folder, 'vmlinux.hosted');
  const quiet = interactive ? [] : ['--append', 'quiet'];
  process.exitCode =
    previrt('inspect', vmlinux) ||
    previrt('burn', vmlinux, '--target', 'hosted', '--output', image) ||
    previrt('run', image, '--target', 'hosted', '--initrd', initramfs, ...quiet);
});
