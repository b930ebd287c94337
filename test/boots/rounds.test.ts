/** A guest is copied while it works: what has arrived when it stops is all that it has. */

import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { makeDisk } from '../../guests/linux/disk.ts';
import { buildInitramfs } from '../../guests/linux/initramfs.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { findTarget } from '../../src/cli/targets.ts';
import { parseElf } from '../../src/elf/image.ts';
import { PAGE_SIZE } from '../../src/machine/ram.ts';
import { copyPages, copyRounds, type Round } from '../../src/migration/rounds.ts';
import type { Incoming, RunningGuest } from '../../src/targets/target.ts';
import { guestPhysical } from '../../src/x86/address.ts';

const LIMIT = 300_000;
const BUILD_LIMIT = 1_800_000;
const MEMORY = 128 * 2 ** 20;
const TIMES = 3;

/** Writes memory, tables of pages, and a disk. */
const WORK =
  'mkdir /mnt; mount -t ext2 /dev/vda /mnt || true; while :; do seq 30000 > /mnt/f; sync; echo 3 > /proc/sys/vm/drop_caches; md5sum < /mnt/f; done';

let folder: string;
let output: number;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'previrt-rounds-'));
  output = openSync(join(folder, 'console'), 'w+');
});
afterEach(() => {
  closeSync(output);
  rmSync(folder, { recursive: true, force: true });
});

/** Pages of the copy that are not what the guest has. */
function differing(guest: { read(start: number, into: Uint8Array): void }, copy: Uint8Array): number[] {
  const page = new Uint8Array(PAGE_SIZE);
  const pages = Array.from({ length: MEMORY / PAGE_SIZE }, (_, index) => index);
  return pages.filter((index) => {
    guest.read(index * PAGE_SIZE, page);
    return Buffer.compare(page, copy.subarray(index * PAGE_SIZE, (index + 1) * PAGE_SIZE)) !== 0;
  });
}

it.each([
  ['hosted', 'usual'],
  ['hosted', 'pae'],
  ['xen', 'usual'],
  ['xen', 'pae'],
] as const)(
  'on %s, page tables: %s',
  async (name, configuration) => {
    const target = await findTarget(name, undefined);
    const { vmlinux } = await buildKernel('annotated', configuration);
    const disk = join(folder, 'disk');
    await makeDisk(disk, 16 * 2 ** 20);
    const ended = new AbortController();
    let attach: (guest: RunningGuest) => void = () => {};
    const attached = new Promise<RunningGuest>((resolve) => {
      attach = resolve;
    });
    const run = target.run({
      elf: parseElf(readFileSync(vmlinux)),
      memory: MEMORY,
      initrd: readFileSync(await buildInitramfs('busybox', WORK)),
      append: '',
      ...(name === 'hosted' && { disk }), // The initial domain has none.
      console: { input: new PassThrough(), output, messages: output, terminal: false },
      attach,
      signal: ended.signal,
    });
    try {
      const guest = await attached;
      while (!/^[0-9a-f]{32} {2}-/m.test(readFileSync(join(folder, 'console'), 'latin1')))
        await setTimeout(100);
      for (let time = 0; time < TIMES; time++) {
        const copy = new Uint8Array(MEMORY);
        const to: Incoming = {
          features: [],
          write: (start, bytes) => copy.set(bytes, start),
          takeUp: () => {},
        };
        const told: Round[] = [];
        const rounds = await copyRounds(
          () => guest.written!(),
          to,
          (round) => told.push(round),
        );
        expect(rounds.length).toBeGreaterThan(1);
        expect(told).toEqual(rounds);
        // What it writes while nobody copies is in the last log, too.
        await setTimeout(200);
        const { ram, written } = await guest.stop();
        const before = differing(
          { read: (start, into) => ram.read(guestPhysical(start), into) },
          copy,
        ).length;
        await copyPages(ram, written!, to);
        const after = differing({ read: (start, into) => ram.read(guestPhysical(start), into) }, copy);
        expect({ before: before > 0, after }).toEqual({ before: true, after: [] });
        await guest.goOn();
        await setTimeout(300);
      }
    } finally {
      ended.abort();
      await run;
    }
  },
  LIMIT + BUILD_LIMIT,
);
