/** The guest's clocks beside ours. Nothing else may run meanwhile: on a busy host every line comes late. */

import { spawnSync } from 'node:child_process';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { buildInitramfs } from '../../guests/linux/initramfs.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { RUN_STATUS } from '../../src/targets/target.ts';
import { Guest, PREVIRT } from './guest.ts';
import { FULL, MACHINES } from './machines.ts';
import { POWER_OFF } from './scenarios.ts';

const LIMIT = 120_000;
const BUILD_LIMIT = 1_800_000;
const UPTIME = /^(\d+\.\d\d) \S+\r$/m;

const now = (): number => Date.now() / 1000;

describe('keeps time', () => {
  let guest: Guest;
  let args: readonly string[];
  beforeAll(async () => {
    spawnSync(PREVIRT, ['--help']); // Builds the command if its source has changed.
    const { vmlinux } = await buildKernel('annotated');
    args = [vmlinux, '--initrd', await buildInitramfs('busybox')];
  }, BUILD_LIMIT);
  afterEach(() => guest.close());

  for (const name of FULL)
    it(`Linux on ${name}: sleep 5 takes 5 s by its own clock and by ours, within 1 %; its date is ours`, {
      // The host itself can only make it later: once in time is enough.
      timeout: LIMIT,
      retry: 2,
    }, async () => {
      guest = new Guest([...args, ...MACHINES[name].options]);
      await guest.expect(/guest# /, LIMIT);
      guest.send('cat /proc/uptime; echo st"art"; sleep 5; echo e"nd"; cat /proc/uptime\n');
      const before = Number((await guest.expect(UPTIME, LIMIT))[1]);
      await guest.expect(/^start\r$/m, LIMIT);
      const start = performance.now();
      await guest.expect(/^end\r$/m, LIMIT);
      const ours = (performance.now() - start) / 1000;
      const after = Number((await guest.expect(UPTIME, LIMIT))[1]);
      // Uptime counts hundredths, and the programs between take their time too.
      expect(after - before).toBeGreaterThanOrEqual(4.99);
      expect(after - before).toBeLessThan(5.1);
      expect(Math.abs(ours - 5)).toBeLessThan(0.05);

      const asked = now();
      guest.send('date +%s\n');
      const date = Number((await guest.expect(/^(\d{9,})\r$/m, LIMIT))[1]);
      // The clock chip gave it whole seconds when it started, and it prints whole seconds. Xen has its own
      // clock from a chip too, in whole seconds if it misses the moment at which that counts.
      expect(date).toBeGreaterThan(asked - (['xen', 'domU'].includes(name) ? 3 : 2));
      expect(date).toBeLessThanOrEqual(now());
      guest.send(`${POWER_OFF[0]}\n`);
      expect((await guest.end(LIMIT)).status).toBe(RUN_STATUS.done);
    });
});
