/** Plays the boot scenarios on one machine, as tests. */

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { checkDisk, makeDisk, readFromDisk } from '../../guests/linux/disk.ts';
import { buildInitramfs } from '../../guests/linux/initramfs.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { RUN_STATUS } from '../../src/targets/target.ts';
import { type Ending, Guest, PREVIRT } from './guest.ts';
import { MACHINES, type MachineName, WITH_DISK } from './machines.ts';
import { DISK_DIALOGUE, diskPattern, SCENARIOS, type Scenario } from './scenarios.ts';

/** Milliseconds that one line of a dialogue may take on the fastest machine. */
const LINE_LIMIT = 30_000;
const BOOT_LIMIT = 30_000;
const TEST_LIMIT = 300_000;
/** A guest's kernel and file systems are built if they are not in the cache. */
const BUILD_LIMIT = 1_800_000;

const PROMPT = /guest# /;
const MEBIBYTE = 2 ** 20;

const isMachine = (names: readonly MachineName[], name: MachineName): boolean => names.includes(name);

/** Tests of everything that machine is listed for. */
export function playOn(name: MachineName): void {
  const { options, patience } = MACHINES[name];
  let guest: Guest | undefined;
  beforeAll(async () => {
    // The command builds itself when its source has changed, and writes where temporary files go.
    spawnSync(PREVIRT, ['--help']);
    await buildKernel('annotated');
  }, BUILD_LIMIT);
  afterEach(() => guest?.close());

  async function boot(
    { kernel, initramfs, memory }: Partial<Scenario>,
    ...more: readonly string[]
  ): Promise<Guest> {
    const { vmlinux } = await buildKernel('annotated', kernel);
    const args = [vmlinux, ...options, ...more];
    if (initramfs) args.push('--initrd', await buildInitramfs(initramfs));
    if (memory) args.push('--memory', memory);
    guest = new Guest(args);
    return guest;
  }

  async function talk(guest: Guest, dialogue: Scenario['dialogue'], seconds = 0): Promise<void> {
    if (dialogue.length > 0) await guest.expect(PROMPT, BOOT_LIMIT * patience);
    for (const [typed, expected] of dialogue) {
      guest.send(typed === '\x03' ? typed : `${typed}\n`);
      await guest.expect(expected, LINE_LIMIT * patience + seconds * 1000);
    }
  }

  async function endOf(guest: Guest): Promise<Ending> {
    const ending = await guest.end(BOOT_LIMIT * patience);
    expect(ending.left).toEqual([]);
    return ending;
  }

  describe(`Linux on ${name}`, () => {
    for (const scenario of SCENARIOS.filter(({ on }) => isMachine(on, name)))
      it(
        scenario.title,
        async () => {
          const guest = await boot(scenario);
          await talk(guest, scenario.dialogue, scenario.seconds);
          const { status, output, messages } = await endOf(guest);
          expect(status, messages).toBe(scenario.status);
          if (scenario.last) expect(output + messages).toMatch(scenario.last);
        },
        TEST_LIMIT + (scenario.seconds ?? 0) * 1000,
      );

    it(
      'goes away without a trace when it is interrupted',
      async () => {
        const guest = await boot({ initramfs: 'busybox' });
        await guest.expect(PROMPT, BOOT_LIMIT * patience);
        guest.signal('SIGINT');
        const { status, orphans } = await endOf(guest);
        expect(status).toBe(RUN_STATUS.host);
        expect(orphans).toEqual([]);
      },
      TEST_LIMIT,
    );

    if (isMachine(WITH_DISK, name))
      it(
        'writes a disk that is clean and complete afterwards',
        async () => {
          const folder = mkdtempSync(join(tmpdir(), 'previrt-disk-'));
          try {
            const content = join(folder, 'content');
            mkdirSync(content);
            writeFileSync(join(content, 'given'), 'from the host\n');
            const disk = join(folder, 'a disk, of ours');
            await makeDisk(disk, 16 * MEBIBYTE, content);
            const guest = await boot({ initramfs: 'busybox' }, '--disk', disk);
            await talk(guest, DISK_DIALOGUE);
            expect((await endOf(guest)).status).toBe(RUN_STATUS.done);
            await checkDisk(disk);
            expect(await readFromDisk(disk, 'dir/100')).toBe('100');
            expect((await readFromDisk(disk, 'made')) === diskPattern()).toBe(true);
          } finally {
            rmSync(folder, { recursive: true, force: true });
          }
        },
        TEST_LIMIT,
      );
  });
}
