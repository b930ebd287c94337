/**
 * A guest moves between targets while it works, and nothing of its work is lost.
 * Replay with PREVIRT_SEED; PREVIRT_CIRCLES is how often it goes around the circle.
 */

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import fc from 'fast-check';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { checkDisk, makeDisk } from '../../guests/linux/disk.ts';
import { buildInitramfs } from '../../guests/linux/initramfs.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { request } from '../../src/cli/control.ts';
import { diskLock } from '../../src/cli/disk-lock.ts';
import type { Place, Snapshot } from '../../src/cli/requests.ts';
import { readStateFile } from '../../src/machine/state-reader.ts';
import { writeStateFile } from '../../src/machine/state-writer.ts';
import type { Moved } from '../../src/migration/session.ts';
import { RUN_STATUS } from '../../src/targets/target.ts';
import { guestVirtual } from '../../src/x86/address.ts';
import { Guest, PREVIRT } from './guest.ts';
import { POWER_OFF } from './scenarios.ts';

const LIMIT = 120_000;
const TEST_LIMIT = 600_000;
const BUILD_LIMIT = 1_800_000;

const CIRCLES = Number(process.env.PREVIRT_CIRCLES ?? 1);
const SEED = Number(process.env.PREVIRT_SEED ?? Date.now() % 2 ** 31);

const BARE: Place = { target: 'bare' };
const HOSTED: Place = { target: 'hosted' };
const DOM0: Place = { target: 'xen' };
const DOMU: Place = { target: 'xen', domain: 'domU' };

/** Forks, starts programs and computes; notes the time again and again; holds a pipe open; and writes a disk, if there is one. */
const WORK = [
  '(while :; do seq 20000 | md5sum; done) > /tmp/sums &',
  '(while :; do cut -d" " -f1 /proc/uptime; sleep 0.1; done) > /tmp/times &',
  '(sleep 1; echo through the pipe; sleep 10000) | cat > /tmp/piped &',
];
const DISK_WORK = [
  'mkdir -p /mnt && mount -t ext2 /dev/vda /mnt',
  '(n=0; while [ ! -e /tmp/enough ]; do n=$((n+1)); seq $n 9999 > /mnt/f$((n%8)); sync; seq $n 9999 | cmp - /mnt/f$((n%8)); done; echo over) > /tmp/differs 2>&1 &',
];

/** A command that passes on what it gets, and one byte of it as another. */
const FLIP = `${process.execPath} -e "let seen = 0; process.stdin.on('data', (bytes) => { const at = 2000000 - seen; if (at >= 0 && at < bytes.length) bytes[at] ^= 255; seen += bytes.length; process.stdout.write(bytes); })"`;

/** What the work has come to, each line with what it has to say. */
const CHECKS: readonly (readonly [string, RegExp])[] = [
  [
    'until [ $(wc -l < /tmp/sums) -gt 3 ]; do sleep 0.1; done; sort -u /tmp/sums',
    /^e071f707df7bbeee2a6a1eb48011ddd0 {2}-\r$/m,
  ],
  [
    `awk '$1 < last { back++ } { last = $1 } END { print back+0, "steps back" }' /tmp/times`,
    /^0 steps back\r$/m,
  ],
  ['cat /tmp/piped', /^through the pipe\r$/m],
];
const DISK_CHECKS: readonly (readonly [string, RegExp])[] = [
  [
    'touch /tmp/enough; until grep -q over /tmp/differs; do sleep 0.1; done; echo $(grep -vc over /tmp/differs) differ; umount /mnt',
    /^0 differ\r$/m,
  ],
];

/** Milliseconds. */
const STANDS_STILL = 8000;

/** The guest's clock is ours, but for the second that its real-time clock counts, and what it has lost, in milliseconds; once it has had the ticks that it missed. */
async function checkClock(guest: Guest, lost = 0): Promise<void> {
  const off = async (): Promise<number> => {
    guest.send('echo now $(date +%s)\n');
    const [, seconds] = await guest.expect(/now (\d+)\r/, LIMIT);
    return Math.abs(Number(seconds) - Date.now() / 1000);
  };
  await expect.poll(off, { timeout: LIMIT }).toBeLessThan(10 + lost / 1000);
}

/** Milliseconds that the guest has been up less than we have. The answer may come late, never early: the best of some counts. */
async function behind(guest: Guest): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let time = 0; time < 3; time++) {
    guest.send('echo up $(cut -d" " -f1 /proc/uptime)\n');
    const [, seconds] = await guest.expect(/up ([\d.]+)\r/, LIMIT);
    least = Math.min(least, Date.now() - Number(seconds) * 1000);
  }
  return least;
}

/** A module has said that it works, and has been loaded altogether: before, a guest on bare metal is not taken over. */
const INITIALIZED = /every: init: \d+ operations, 0 fail[\s\S]*^loaded\r$/m;

let folder: string;
let guest: Guest | undefined;
beforeAll(() => void spawnSync(PREVIRT, ['--help']), BUILD_LIMIT);
afterEach(async () => {
  await guest?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** The name of a process, empty if it is gone (proc(5)). */
function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8');
  } catch {
    return '';
  }
}

/** Ends a process, unless it has ended: the move was faster. */
function kill(pid: number): void {
  if (nameOf(pid)) process.kill(pid, 'SIGKILL');
}

/** The guest still has its file, and ends well. */
async function hasKept(): Promise<void> {
  guest!.send('cat /tmp/file\n');
  await guest!.expect(/^kept\r$/m, LIMIT);
  guest!.send(`${POWER_OFF[0]}\n`);
  expect((await guest!.end(LIMIT)).status).toBe(RUN_STATUS.done);
}

interface Journey {
  readonly start: Place;
  readonly places: readonly Place[];
  readonly disk?: boolean;
  /** Milliseconds that it runs in between, at most. */
  readonly stay: number;
}

async function start(
  { start: place, disk = false }: Journey,
  more: readonly string[],
  initramfs: 'glibc' | 'modules' = 'glibc',
): Promise<string> {
  folder = mkdtempSync(join(tmpdir(), 'previrt-migrate-'));
  const control = join(folder, 'control');
  const { vmlinux } = await buildKernel('annotated', initramfs === 'modules' ? 'modules' : 'usual');
  const args = [vmlinux, '--target', place.target, '--control', control, ...more];
  if (place.domain) args.push('--domain', place.domain);
  args.push('--initrd', await buildInitramfs(initramfs));
  if (disk) {
    const content = join(folder, 'content');
    mkdirSync(content);
    await makeDisk(join(folder, 'disk'), 16 * 2 ** 20, content);
    args.push('--disk', join(folder, 'disk'));
  }
  guest = new Guest(args);
  await guest.expect(/guest# /, LIMIT);
  return control;
}

async function travel(journey: Journey): Promise<void> {
  const control = await start(journey, ['--cpu', 'pentium3']);
  for (const line of [...WORK, ...(journey.disk ? DISK_WORK : [])]) {
    guest!.send(`${line}\n`);
    await guest!.expect(/guest# /, LIMIT);
  }
  const stays = fc.sample(fc.integer({ min: 0, max: journey.stay }), {
    seed: SEED,
    numRuns: journey.places.length,
  });
  const begun = await behind(guest!);
  let from = journey.start;
  let beside = 0;
  for (const [index, place] of journey.places.entries()) {
    await setTimeout(stays[index]!);
    const since = performance.now();
    const { stopped, rounds } = await request<Moved>(control, { migrate: place });
    if (from === BARE && place === DOMU) beside += performance.now() - since - stopped;
    expect(stopped).toBeGreaterThan(0);
    // The first copies all, the others what was written meanwhile.
    const live = from !== BARE && place !== BARE;
    expect(rounds.length > 1).toBe(live);
    from = place;
  }
  // A few milliseconds a move, and what QEMU itself loses on a busy host: at most all ticks of the
  // long time in which a domain starts beside it. Those that were missed come by and by.
  await checkClock(guest!, beside);
  await expect
    .poll(async () => Math.abs((await behind(guest!)) - begun), { timeout: LIMIT })
    .toBeLessThan(1000 + 200 * journey.places.length + beside);
  for (const [line, expected] of [...CHECKS, ...(journey.disk ? DISK_CHECKS : [])]) {
    guest!.send(`${line}\n`);
    await guest!.expect(expected, LIMIT);
  }
  guest!.send(`${POWER_OFF[0]}\n`);
  expect((await guest!.end(LIMIT)).status).toBe(RUN_STATUS.done);
  if (journey.disk) await checkDisk(join(folder, 'disk'));
}

/** From a version of Xen to the next. */
const UPGRADES = [
  ['4.14', '4.17'],
  ['4.17', '4.20'],
] as const;

/** A way for less than 2 MiB a second: the first round takes longer than anybody waits here. */
const SLOW = 'while dd bs=64k count=16 2>/dev/null; do sleep 0.5; done';

describe(`a guest that moves while it works (PREVIRT_SEED=${SEED})`, () => {
  it(
    'from process to process, 10 times, with a disk',
    () => travel({ start: HOSTED, places: Array(10).fill(HOSTED), disk: true, stay: 1000 }),
    TEST_LIMIT,
  );
  it(
    'to Xen and back, and to Xen again, as its initial domain, and to one of its domains and back',
    () => travel({ start: HOSTED, places: [DOM0, HOSTED, DOM0, DOM0, DOMU, DOM0], stay: 1000 }),
    TEST_LIMIT,
  );
  it.for(UPGRADES)('from Xen %s to %s, and back', { timeout: TEST_LIMIT }, async (versions) => {
    const places = [...versions, versions[0]].map((machine) => ({ ...DOM0, machine }));
    await travel({ start: HOSTED, places, stay: 500 });
  });
  it(
    'with its modules, which go on to work, and come and go',
    async () => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, ['--cpu', 'pentium3'], 'modules');
      guest!.send('insmod /lib/every.ko quiet=1 && echo kept > /tmp/file\n');
      await guest!.expect(/guest# /, LIMIT);
      for (const place of [DOM0, HOSTED]) {
        await request<Moved>(control, { migrate: place });
        guest!.send('rmmod every && insmod /lib/every.ko quiet=1 && echo in$(lsmod | grep -c every)\n');
        await guest!.expect(/^in1\r$/m, LIMIT);
      }
      guest!.send('rmmod every; dmesg | grep -c "every: .* fail"\n');
      await guest!.expect(/^0\r$/m, LIMIT);
      await hasKept();
    },
    TEST_LIMIT,
  );
  it(
    'with modules that were loaded on bare metal, which are found in memory, and come and go wherever it is',
    async () => {
      const control = await start({ start: BARE, places: [], stay: 0 }, [], 'modules');
      const says = async (line: string, expected: RegExp): Promise<void> => {
        guest!.send(`${line}\n`);
        await guest!.expect(expected, LIMIT);
      };
      const again = async (): Promise<void> => {
        await says('rmmod every', /every: exit: \d+ operations, 0 fail/);
        await says('insmod /lib/every.ko; echo loa"ded"', INITIALIZED);
      };
      await says('dmesg -n 8; echo kept > /tmp/file; insmod /lib/every.ko; echo loa"ded"', INITIALIZED);
      // One with sites that goes on to be used, and others that have none.
      await says(
        'for m in loop minix libsha256 sha256_generic dummy; do insmod /lib/$m.ko; done; wc -l < /proc/modules',
        /^6\r$/m,
      );
      await says(
        'cp /lib/minix.img /tmp; losetup /dev/loop0 /tmp/minix.img; mkdir /m; mount -t minix /dev/loop0 /m; seq 9999 > /m/f; echo mo"unted"',
        /^mounted\r$/m,
      );
      const used = () =>
        says('umount /m; mount -t minix /dev/loop0 /m; md5sum < /m/f', /^05fda6bec6aabc94d0fc54380ace8412/m);
      for (const place of [HOSTED, BARE, DOM0, BARE, HOSTED]) {
        await request<Moved>(control, { migrate: place });
        await used();
        await again();
      }
      await says(
        'umount /m; losetup -d /dev/loop0; rmmod every minix loop sha256_generic libsha256 dummy; wc -l < /proc/modules',
        /^0\r$/m,
      );
      const file = join(folder, 'state');
      await request(control, { snapshot: { file, compress: false } });
      const descriptor = openSync(file, 'r');
      expect(readStateFile(descriptor).sites.filter(({ owner }) => owner !== 0)).toEqual([]);
      closeSync(descriptor);
      await says('insmod /lib/every.ko; echo loa"ded"', INITIALIZED);
      await hasKept();
    },
    TEST_LIMIT,
  );
  it(
    'with a module that comes and goes all the time, in the middle of its initialization or end',
    async () => {
      const control = await start({ start: BARE, places: [], stay: 0 }, [], 'modules');
      guest!.send('echo kept > /tmp/file; dmesg -n 8\n');
      await guest!.expect(/guest# /, LIMIT);
      guest!.send('(while [ ! -e /tmp/enough ]; do insmod /lib/every.ko quiet=1 && rmmod every; done) &\n');
      await guest!.expect(/guest# /, LIMIT);
      const stays = fc.sample(fc.integer({ min: 0, max: 200 }), { seed: SEED, numRuns: 12 });
      for (const [index, stay] of stays.entries()) {
        await setTimeout(stay);
        const migrate = index % 2 ? BARE : HOSTED;
        for (;;)
          try {
            await request<Moved>(control, { migrate });
            break;
          } catch (error) {
            expect((error as Error).message).toMatch(/ is just /);
          }
      }
      guest!.send('touch /tmp/enough; wait; wc -l < /proc/modules; dmesg | grep -c "every: .* fail"\n');
      await guest!.expect(/^0\r\n0\r$/m, LIMIT);
      await hasKept();
    },
    TEST_LIMIT,
  );
  it(
    'with a module that another toolchain has built, loaded on bare metal: it traps',
    async () => {
      const control = await start({ start: BARE, places: [], stay: 0 }, [], 'modules');
      guest!.send('echo kept > /tmp/file; dmesg -n 8; insmod /lib/plain.ko; echo loa"ded"\n');
      await guest!.expect(INITIALIZED, LIMIT);
      await request<Moved>(control, { migrate: HOSTED });
      guest!.send('rmmod every\n');
      await guest!.expect(/every: exit: \d+ operations, 0 fail/, LIMIT);
      await hasKept();
    },
    TEST_LIMIT,
  );
  it(
    'while programs start, which ask CPUID of one processor and use XGETBV on another',
    async () => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, ['--cpu', 'pentium3']);
      // A job for each way, by the descriptor that it waits for; it has asked when that is said.
      const ask = async (job: number): Promise<void> => {
        guest!.send(
          `mkfifo /tmp/go${job}; stress xgetbv < /tmp/go${job} > /tmp/job${job} & exec ${job}> /tmp/go${job}\n`,
        );
        guest!.send(`until grep -q OSXSAVE /tmp/job${job}; do sleep 0.1; done; echo asked ${job}\n`);
        await guest!.expect(new RegExp(`^asked ${job}\\r$`, 'm'), LIMIT);
      };
      const use = async (job: number): Promise<void> => {
        guest!.send(`echo >&${job}; until grep -q ok /tmp/job${job}; do sleep 0.1; done; echo used ${job}\n`);
        await guest!.expect(new RegExp(`^used ${job}\\r$`, 'm'), LIMIT);
      };
      await ask(3);
      await ask(4);
      await request<Moved>(control, { migrate: DOM0 });
      await use(3);
      await ask(5);
      await request<Moved>(control, { migrate: HOSTED });
      await use(5);
      await request<Moved>(control, { migrate: BARE });
      await use(4);
      await ask(6);
      await request<Moved>(control, { migrate: HOSTED });
      await use(6);
      guest!.send(`${POWER_OFF[0]}\n`);
      expect((await guest!.end(LIMIT)).status).toBe(RUN_STATUS.done);
    },
    TEST_LIMIT,
  );
  it(
    'from Xen under its toolstack to a process and back, with a disk',
    () => travel({ start: DOMU, places: [HOSTED, DOMU], disk: true, stay: 2000 }),
    TEST_LIMIT,
  );
  it(
    'with a disk, between machines that keep its image to themselves',
    () => travel({ start: BARE, places: [BARE, DOMU, DOMU, BARE], disk: true, stay: 2000 }),
    TEST_LIMIT,
  );
  it(
    'from bare metal with what is typed right before, which has not been read',
    async () => {
      const control = await start({ start: BARE, places: [], stay: 0 }, []);
      guest!.send('stty -echo; echo rea"dy"; cat > /tmp/typed\n');
      await guest!.expect(/ready\r/, LIMIT);
      for (let line = 0; line < 60; line++) guest!.send(`${'typed '.repeat(8)}\n`);
      await request<Moved>(control, { migrate: BARE });
      guest!.send('\x04');
      guest!.send('stty echo; wc -l < /tmp/typed; echo kept > /tmp/file\n');
      await guest!.expect(/\b60\r/, LIMIT);
      await hasKept();
    },
    TEST_LIMIT,
  );
  it(
    'not from Xen with more memory than its wedge can show: it goes on there',
    async () => {
      const control = await start({ start: DOM0, places: [], stay: 0 }, ['--memory', '3G']);
      guest!.send('echo kept > /tmp/file\n');
      const file = join(folder, 'state');
      const tooLarge = "the guest's memory is too large to be shown from";
      await expect(request(control, { migrate: HOSTED })).rejects.toThrow(tooLarge);
      await expect(request(control, { snapshot: { file, compress: false } })).rejects.toThrow(tooLarge);
      await hasKept();
    },
    TEST_LIMIT,
  );
  it(
    'around the circle, from bare metal to a process, a domain, a process and bare metal, with a disk',
    () => {
      const places = Array<Place[]>(CIRCLES).fill([HOSTED, DOMU, HOSTED, BARE]).flat();
      return travel({ start: BARE, places, disk: true, stay: 1500 });
    },
    TEST_LIMIT * CIRCLES,
  );
  it(
    'from a process and from Xen to bare metal, where it has never been',
    () => travel({ start: HOSTED, places: [BARE, DOM0, BARE], stay: 1500 }),
    TEST_LIMIT,
  );
  it(
    'from bare metal to Xen and back, and once more',
    () => travel({ start: BARE, places: [DOM0, BARE, HOSTED, BARE], stay: 1500 }),
    TEST_LIMIT,
  );
  it.each([HOSTED, DOM0])(
    'from a file, twice: $target',
    async ({ target }) => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, ['--cpu', 'pentium3']);
      guest!.send(`${WORK[0]}\n`);
      await guest!.expect(/guest# /, LIMIT);
      guest!.send('echo kept > /tmp/file\n');
      await guest!.expect(/guest# /, LIMIT);
      const file = join(folder, 'state');
      const { bytes } = await request<Snapshot>(control, { snapshot: { file, compress: target === 'xen' } });
      expect(bytes).toBeGreaterThan(2 ** 20);
      await guest!.close();
      for (let time = 0; time < 2; time++) {
        guest = new Guest([file, '--target', target], 'resume');
        guest.send('cat /tmp/file\n');
        await guest.expect(/^kept\r$/m, LIMIT);
        await checkClock(guest);
        const [sums, expected] = CHECKS[0]!;
        guest.send(`${sums}\n`);
        await guest.expect(expected, LIMIT);
        guest.send(`${POWER_OFF[0]}\n`);
        expect((await guest.end(LIMIT)).status).toBe(RUN_STATUS.done);
      }
    },
    TEST_LIMIT,
  );
  it(
    'from a file to bare metal, and from there only if its kernel is known, which leads to its modules',
    async () => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, ['--cpu', 'pentium3']);
      guest!.send('echo kept > /tmp/file\n');
      await guest!.expect(/guest# /, LIMIT);
      const file = join(folder, 'state');
      await request<Snapshot>(control, { snapshot: { file, compress: false } });
      await guest!.close();
      const there = join(folder, 'there');
      const onBare = async (...more: string[]): Promise<void> => {
        guest = new Guest([file, '--target', 'bare', '--control', there, ...more], 'resume');
        guest.send('echo ru"ns"\n');
        await guest.expect(/^runs\r$/m, LIMIT);
      };
      await onBare();
      await expect(request(there, { migrate: HOSTED })).rejects.toThrow('its list of modules is not known');
      await hasKept();
      const { vmlinux } = await buildKernel('annotated');
      await onBare('--kernel', vmlinux);
      await request<Moved>(there, { migrate: HOSTED });
      await hasKept();
    },
    TEST_LIMIT,
  );
  it(
    'from a file to bare metal, process and Xen, with the time that it stood still, which has passed for it as well',
    async () => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, ['--cpu', 'pentium3']);
      const begun = await behind(guest!);
      // One timer expires meanwhile, one when the guest has gone on.
      for (const seconds of [STANDS_STILL / 2000, STANDS_STILL / 1000 + 4])
        guest!.send(`(sleep ${seconds}; echo rang >> /tmp/rang) &\n`);
      await behind(guest!);
      const file = join(folder, 'state');
      await request<Snapshot>(control, { snapshot: { file, compress: false } });
      await guest!.close();
      await setTimeout(STANDS_STILL);
      for (const target of ['bare', 'hosted', 'xen']) {
        guest = new Guest([file, '--target', target], 'resume');
        while ((await behind(guest)) - begun > STANDS_STILL / 4) await setTimeout(200);
        expect((await behind(guest)) - begun).toBeGreaterThan(-300);
        guest.send('wait; echo $(wc -l < /tmp/rang) have rung\n');
        await guest.expect(/^2 have rung\r$/m, LIMIT);
        guest.send(`${POWER_OFF[0]}\n`);
        expect((await guest.end(LIMIT)).status).toBe(RUN_STATUS.done);
      }
    },
    TEST_LIMIT,
  );
  it(
    'not from a file with more sites of modules than the wedge has room for',
    async () => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, []);
      const [file, changed] = [join(folder, 'state'), join(folder, 'changed')];
      await request(control, { snapshot: { file, compress: false } });
      await guest!.close();
      const [from, to] = [openSync(file, 'r'), openSync(changed, 'wx+')];
      const machine = readStateFile(from);
      const site = { ...machine.sites[0]!, owner: 1 };
      const many = Array.from({ length: 9000 }, (_, n) => ({
        ...site,
        address: guestVirtual(0xe000_0000 + 16 * n),
      }));
      writeStateFile(to, { ...machine, sites: [...machine.sites, ...many] });
      closeSync(from);
      closeSync(to);
      guest = new Guest([changed], 'resume');
      const { status, messages } = await guest.end(LIMIT);
      expect(messages).toContain("the guest's modules have more sites than there is room for");
      expect(status).toBe(RUN_STATUS.host);
    },
    TEST_LIMIT,
  );
  it(
    'nowhere, where the processor lacks what it knows of: it goes on where it was',
    async () => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, []);
      guest!.send('uptime > /tmp/before; echo kept > /tmp/file\n');
      await guest!.expect(/guest# /, LIMIT);
      await expect(request(control, { migrate: DOM0 })).rejects.toThrow(
        /it did not go on there: the processor there lacks what the guest knows it has: .*avx/,
      );
      const file = join(folder, 'state');
      await request(control, { snapshot: { file, compress: false } });
      await hasKept();
      guest = new Guest([file, '--target', 'bare'], 'resume');
      expect((await guest.end(LIMIT)).messages).toMatch(/the processor there lacks .*avx/);
    },
    TEST_LIMIT,
  );
  it(
    'to another previrt, which goes on with it behind a command; and nowhere behind one that breaks',
    async () => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, ['--cpu', 'pentium3']);
      guest!.send(`${WORK[0]}\n`);
      await guest!.expect(/guest# /, LIMIT);
      guest!.send('echo kept > /tmp/file\n');
      await guest!.expect(/guest# /, LIMIT);
      const through = (command: string) => request<Moved>(control, { migrate: { through: command } });
      await expect(through('echo nobody is here >&2; exit 1')).rejects.toThrow('nobody is here');
      await expect(through('head -c 32 > /dev/null')).rejects.toThrow('the connection was closed');
      await expect(through(`stdbuf -o0 head -c 300000 | ${PREVIRT} resume -`)).rejects.toThrow(
        'before all of the state',
      );
      await expect(through(`stdbuf -o0 head -c 4000000 | ${PREVIRT} resume -`)).rejects.toThrow(
        'before all of the state',
      );
      await expect(through(`${PREVIRT} resume - --target nowhere`)).rejects.toThrow(/did not go on/);
      await expect(through(`${FLIP} | ${PREVIRT} resume -`)).rejects.toThrow(
        /pages at 0x[0-9a-f]+ do not have their checksum|head of a frame does not have its/,
      );
      // There is no room there: blocks of 512 bytes, and a file has RAM, where no wedge waits for it.
      await expect(through(`ulimit -f 1000; ${PREVIRT} resume - --target bare`)).rejects.toThrow(
        /did not go on there: .*EFBIG/,
      );
      // The way breaks when it has said that it runs, before that is heard: it ends there, and goes on here.
      const lost = join(folder, 'lost');
      const heard = "grep --line-buffered 'awaits a guest\\|does not run here' >&2";
      const unheard = `timeout 5 cat | ${PREVIRT} resume - --control ${lost} 2>&1 >/dev/null | ${heard}`;
      await expect(through(unheard)).rejects.toThrow('it did not go on there');
      while (existsSync(lost)) await setTimeout(10);
      const next = join(folder, 'next');
      await through(`${PREVIRT} resume - --control ${next}`);
      await expect(request(control, { migrate: HOSTED })).rejects.toThrow('the guest runs elsewhere');
      await request<Moved>(next, { migrate: DOM0 });
      await request<Moved>(next, { migrate: HOSTED });
      const [sums, expected] = CHECKS[0]!;
      guest!.send(`${sums}\n`);
      await guest!.expect(expected, LIMIT);
      await hasKept();
    },
    TEST_LIMIT,
  );
  it(
    "with a disk, whose image is nobody else's, wherever it is and wherever it does not go",
    async () => {
      const control = await start({ start: HOSTED, places: [], disk: true, stay: 0 }, ['--cpu', 'pentium3']);
      guest!.send('echo kept > /tmp/file; mkdir -p /mnt; mount -t ext2 /dev/vda /mnt; echo mo"unted"\n');
      await guest!.expect(/^mounted\r$/m, LIMIT);
      const disk = join(folder, 'disk');
      const isLocked = () => expect(() => diskLock(disk).take()).toThrow(`disk ${disk} is in use`);
      const { vmlinux } = await buildKernel('annotated');
      const second = spawnSync(PREVIRT, ['run', vmlinux, '--disk', disk], { encoding: 'utf8' });
      expect(second).toMatchObject({ status: RUN_STATUS.host, stdout: '' });
      expect(second.stderr).toMatch(/^previrt: disk .* is in use by another guest; /);
      const through = (command: string) => request<Moved>(control, { migrate: { through: command } });
      await expect(through(`${FLIP} | ${PREVIRT} resume - --disk ${disk}`)).rejects.toThrow('checksum');
      isLocked();
      // It is theirs already when they die.
      await expect(
        through(`${PREVIRT} resume - --disk ${disk} 2>&1 >/dev/null | sed -u '/runs here/Q' >&2`),
      ).rejects.toThrow('it did not go on there');
      isLocked();
      const next = join(folder, 'next');
      await through(`${PREVIRT} resume - --disk ${disk} --control ${next}`);
      isLocked();
      for (const place of [HOSTED, BARE]) {
        await request<Moved>(next, { migrate: place });
        isLocked();
      }
      guest!.send(
        'seq 9999 > /mnt/file; sync; echo 3 > /proc/sys/vm/drop_caches; md5sum < /mnt/file; umount /mnt\n',
      );
      await guest!.expect(/^05fda6bec6aabc94d0fc54380ace8412/m, LIMIT);
      await hasKept();
      const free = diskLock(disk);
      free.take();
      free.release();
      await checkDisk(disk);
    },
    TEST_LIMIT,
  );
  it(
    'nowhere, if nobody hears that it runs there: it ends there by itself, before it goes on here',
    async () => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, ['--cpu', 'pentium3']);
      guest!.send('echo kept > /tmp/file\n');
      await guest!.expect(/guest# /, LIMIT);
      const [lost, enough] = ['lost', 'enough'].map((name) => join(folder, name)) as [string, string];
      // The way there stays open, and nothing comes back of it but that it is awaited.
      const there = `(cat <&3 & p=$!; while [ ! -e ${enough} ]; do sleep 0.1; done; kill $p)`;
      const back = "2>&1 >/dev/null | grep --line-buffered 'awaits a guest' >&2";
      const through = `exec 3<&0; ${there} | ${PREVIRT} resume - --control ${lost} ${back}`;
      let answered = false;
      const moved = request(control, { migrate: { through } })
        .then(
          () => 'moved',
          (error: Error) => error.message,
        )
        .finally(() => {
          answered = true;
        });
      await expect.poll(() => existsSync(lost), { timeout: LIMIT }).toBe(true);
      await expect.poll(() => existsSync(lost), { timeout: LIMIT }).toBe(false);
      expect(answered).toBe(false);
      closeSync(openSync(enough, 'w'));
      expect(await moved).toContain('it did not go on there');
      await hasKept();
    },
    TEST_LIMIT,
  );
  it(
    'to a file, again and again, while somebody types',
    async () => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, []);
      guest!.send('echo be"gins"; head -n 400 > /tmp/typed; md5sum < /tmp/typed\n');
      // Before, the shell may read what is typed.
      await guest!.expect(/^begins\r$/m, LIMIT);
      const lines = Array.from({ length: 400 }, (_, n) => `line ${n}\n`);
      const typing = (async () => {
        for (const line of lines) {
          guest!.send(line);
          await setTimeout(5);
        }
      })();
      for (let time = 0; time < 6; time++)
        await request(control, { snapshot: { file: join(folder, 'state'), compress: false } });
      await typing;
      const sum = createHash('md5').update(lines.join('')).digest('hex');
      await guest!.expect(new RegExp(`^${sum}`, 'm'), LIMIT);
      guest!.send(`${POWER_OFF[0]}\n`);
      expect((await guest!.end(LIMIT)).status).toBe(RUN_STATUS.done);
    },
    TEST_LIMIT,
  );
  it.each(['that it comes from', 'that it is to go to'])(
    'nowhere, when the process %s is killed while its memory is copied',
    async (which) => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, ['--cpu', 'pentium3']);
      guest!.send('echo kept > /tmp/file\n');
      await guest!.expect(/guest# /, LIMIT);
      const guests = () => guest!.children().filter((child) => nameOf(child).startsWith('hosted-'));
      const [source] = guests();
      const moved = request(control, { migrate: HOSTED }).then(
        () => 'moved',
        (error: Error) => error.message,
      );
      let target: number | undefined;
      while (target === undefined) {
        await setTimeout(1);
        target = guests().find((child) => child !== source);
      }
      // It takes some 30 ms until it awaits the memory, and that some 50 ms.
      await setTimeout(SEED % 80);
      kill(which === 'that it comes from' ? source! : target);
      const said = await moved;
      if (which === 'that it comes from') {
        if (said !== 'moved') expect((await guest!.end(LIMIT)).status).toBe(RUN_STATUS.crash);
        else await hasKept();
      } else if (said === 'moved') expect((await guest!.end(LIMIT)).status).toBe(RUN_STATUS.crash);
      else {
        expect(said).toMatch(/it did not go on there: /);
        await request<Moved>(control, { migrate: HOSTED });
        await hasKept();
      }
    },
    TEST_LIMIT,
  );
  it.each([
    ['hosted', HOSTED],
    ['bare', BARE],
  ])(
    'not to a file that there is no room for: %s',
    async (_name, started) => {
      const control = await start({ start: started, places: [], stay: 0 }, ['--cpu', 'pentium3']);
      guest!.send('echo kept > /tmp/file\n');
      await guest!.expect(/guest# /, LIMIT);
      const limit = (bytes: string): void =>
        void execFileSync('prlimit', ['--pid', String(guest!.pid), `--fsize=${bytes}:`]);
      const place = join(folder, 'full');
      mkdirSync(place);
      const file = join(place, 'state');
      const snapshot = () => request<Snapshot>(control, { snapshot: { file, compress: false, end: true } });
      limit('1000000');
      await expect(snapshot()).rejects.toThrow(`cannot write ${file}: the file may not be that large`);
      expect(readdirSync(place)).toEqual([]);
      limit('unlimited');
      guest!.send('cat /tmp/file\n');
      await guest!.expect(/^kept\r$/m, LIMIT);
      await snapshot();
      expect(readdirSync(place)).toEqual(['state']);
    },
    TEST_LIMIT,
  );
  it(
    'nowhere, when it is called off with a Ctrl-C; and to another place then',
    async () => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, ['--cpu', 'pentium3']);
      guest!.send('echo kept > /tmp/file\n');
      await guest!.expect(/guest# /, LIMIT);
      const before = guest!.children();
      // To Xen, which takes seconds to come up; and while memory is copied.
      for (const where of [
        ['--to', 'xen'],
        ['--through', `${SLOW} | ${PREVIRT} resume -`],
      ]) {
        const asking = spawn(PREVIRT, ['migrate', control, ...where], { stdio: 'ignore' });
        await expect.poll(() => guest!.children().length, { timeout: LIMIT }).toBe(before.length + 1);
        await setTimeout(500);
        asking.kill('SIGINT');
        expect(await once(asking, 'close')).toEqual([null, 'SIGINT']);
        await expect.poll(() => guest!.children(), { timeout: LIMIT }).toEqual(before);
      }
      await request<Moved>(control, { migrate: HOSTED });
      expect(guest!.children()).not.toEqual(before);
      await hasKept();
    },
    TEST_LIMIT,
  );
  it(
    'nowhere, when it ends while its memory is copied',
    async () => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, ['--cpu', 'pentium3']);
      const moved = request(control, { migrate: { through: `${SLOW} | ${PREVIRT} resume -` } });
      const refused = expect(moved).rejects.toThrow('the guest has ended');
      await setTimeout(1000);
      guest!.send(`${POWER_OFF[0]}\n`);
      await refused;
      expect((await guest!.end(LIMIT)).status).toBe(RUN_STATUS.done);
    },
    TEST_LIMIT,
  );
  it(
    'nowhere, when whoever is to take it up is killed; and to another place then',
    async () => {
      const control = await start({ start: HOSTED, places: [], stay: 0 }, ['--cpu', 'pentium3']);
      guest!.send('echo kept > /tmp/file\n');
      await guest!.expect(/guest# /, LIMIT);
      const moved = request(control, { migrate: DOM0 }).then(
        () => 'moved',
        (error: Error) => error.message,
      );
      let killed: number | undefined;
      while (killed === undefined) {
        await setTimeout(10);
        killed = guest!.children().find((child) => nameOf(child).startsWith('qemu'));
      }
      process.kill(killed, 'SIGKILL');
      expect(await moved).toMatch(/it did not go on there: /);
      guest!.send('cat /tmp/file\n');
      await guest!.expect(/^kept\r$/m, LIMIT);
      await request<Moved>(control, { migrate: HOSTED });
      await hasKept();
    },
    TEST_LIMIT,
  );
});
