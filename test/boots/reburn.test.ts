/** A running guest is burned again and again, for other domains each time, while it works. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { makeDisk } from '../../guests/linux/disk.ts';
import { buildInitramfs } from '../../guests/linux/initramfs.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import type { Reburned } from '../../src/targets/command.ts';
import { RUN_STATUS } from '../../src/targets/target.ts';
import type { DomainName } from '../../src/x86/site-kinds.ts';
import { Guest, PREVIRT } from './guest.ts';
import { MACHINES } from './machines.ts';
import { POWER_OFF } from './scenarios.ts';

const LIMIT = 120_000;
const TEST_LIMIT = 400_000;
const BUILD_LIMIT = 1_800_000;

const CHOICES: readonly (readonly DomainName[])[] = [
  ['cpu'],
  ['cpu', 'portio', 'entry'],
  ['cpu', 'entry'],
  ['cpu', 'portio'],
];

/** How often, by machine: Xen runs in an emulator here, and stands still for a tenth of a second each time. */
const TIMES = { hosted: 1000, xen: 100 } as const;
/** Milliseconds that the guest runs in between, at least. */
const PAUSE = { hosted: 0, xen: 100 } as const;

/** Asks `times` times for other domains, `pause` milliseconds after each answer. @throws Error with the answer that is none */
async function reburn(path: string, times: number, pause: number): Promise<Reburned[]> {
  const socket = connect(path);
  const answers: Reburned[] = [];
  const ask = (): void => {
    socket.write(`${JSON.stringify({ reburn: CHOICES[answers.length % CHOICES.length] })}\n`);
  };
  ask();
  for await (const line of createInterface(socket)) {
    const answer = JSON.parse(line) as Reburned & { error?: string };
    if (answer.error !== undefined) throw new Error(answer.error);
    answers.push(answer);
    if (answers.length === times) break;
    if (pause) await setTimeout(pause);
    ask();
  }
  socket.destroy();
  return answers;
}

describe('a guest burned again while it runs', () => {
  let guest: Guest;
  let folder: string;
  beforeAll(() => void spawnSync(PREVIRT, ['--help']), BUILD_LIMIT);
  afterEach(async () => {
    await guest.close();
    rmSync(folder, { recursive: true, force: true });
  });

  for (const name of ['hosted', 'xen'] as const)
    it(
      `Linux on ${name}, ${TIMES[name]} times, forking, compressing and with modules coming and going`,
      async () => {
        folder = mkdtempSync(join(tmpdir(), 'previrt-reburn-'));
        const control = join(folder, 'control');
        const { vmlinux } = await buildKernel('annotated', 'modules');
        const args = [vmlinux, ...MACHINES[name].options, '--initrd', await buildInitramfs('modules')];
        args.push('--control', control);
        if (name === 'hosted') {
          const disk = join(folder, 'disk');
          const content = join(folder, 'content');
          mkdirSync(content);
          await makeDisk(disk, 16 * 2 ** 20, content);
          args.push('--disk', disk);
        }
        guest = new Guest(args);
        await guest.expect(/guest# /, LIMIT);
        const lines = [
          '(while :; do seq 20000 | md5sum; done) > /tmp/sums &',
          '(while :; do insmod /lib/every.ko quiet=1 && rmmod every; done) &',
          ...(name === 'hosted'
            ? [
                'mount -t ext2 /dev/vda /mnt || mkdir /mnt && mount -t ext2 /dev/vda /mnt',
                '(while :; do seq 50000 > /mnt/f; sync; md5sum < /mnt/f; done) > /tmp/written &',
              ]
            : []),
        ];
        for (const line of lines) {
          guest.send(`${line}\n`);
          await guest.expect(/guest# /, LIMIT);
        }
        const answers = await reburn(control, TIMES[name], PAUSE[name]);
        expect(answers.length).toBe(TIMES[name]);
        expect(answers.every(({ sites }) => sites > 5000)).toBe(true);
        expect(answers.slice(1).every(({ changed }) => changed > 0 || name === 'xen')).toBe(true);
        // Each sum is that of the same numbers.
        guest.send(
          'until [ $(wc -l < /tmp/sums) -gt 2 ]; do sleep 0.1; done; sort -u /tmp/sums; dmesg | grep -c "every: .* fail"\n',
        );
        await guest.expect(/^e071f707df7bbeee2a6a1eb48011ddd0 {2}-\r\n0\r$/m, LIMIT);
        if (name === 'hosted') {
          guest.send('until [ -s /tmp/written ]; do sleep 0.1; done; sort -u /tmp/written | wc -l\n');
          await guest.expect(/^1\r$/m, LIMIT);
        }
        guest.send(`${POWER_OFF[0]}\n`);
        expect((await guest.end(LIMIT)).status).toBe(RUN_STATUS.done);
      },
      TEST_LIMIT,
    );
});
