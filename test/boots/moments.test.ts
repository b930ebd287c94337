/**
 * A Linux on bare QEMU is taken over at moments that a clock would hardly ever
 * hit: in an interrupt shadow, halted, at sensitive instructions, with requests
 * of the disk on their way. It goes on as a process. Replay with PREVIRT_SEED.
 */

import { closeSync, copyFileSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkDisk, makeDisk } from '../../guests/linux/disk.ts';
import { buildInitramfs } from '../../guests/linux/initramfs.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { viewOf } from '../../src/elf/codec.ts';
import { parseElf } from '../../src/elf/image.ts';
import { readSymbols } from '../../src/elf/symbols.ts';
import { linkOffset } from '../../src/machine/boot-plan.ts';
import { type Machine, PROCESSORS } from '../../src/machine/state.ts';
import { writeStateFile } from '../../src/machine/state-writer.ts';
import { readAllSites } from '../../src/sites/embedded.ts';
import { PATCH_NOT_BURNED, patchEntry } from '../../src/sites/patch-table.ts';
import type { Site } from '../../src/sites/site.ts';
import { readStream } from '../../src/targets/bare/migration-stream.ts';
import { toMachineState } from '../../src/targets/bare/pc-state.ts';
import { RUN_STATUS } from '../../src/targets/target.ts';
import { guestPhysical } from '../../src/x86/address.ts';
import type { SiteKindName } from '../../src/x86/site-kinds.ts';
import { BareGuest } from './bare-qemu.ts';
import { Gdb } from './gdb.ts';
import { Guest } from './guest.ts';
import { POWER_OFF } from './scenarios.ts';

const MEBIBYTE = 2 ** 20;
const LIMIT = 60_000;
const TEST_LIMIT = 200_000;
const BUILD_LIMIT = 1_800_000;
/** Milliseconds that the guest has to come to a place that it comes to: idle it is only when both loops sleep. */
const COMES = 60_000;

/** How many times the guest comes to a place, at most, until it is the moment. */
const TIMES = 30;
/** How many sensitive instructions, of those that the guest comes to. */
const PLACES = 4;
/** Kinds that a kernel executes while it boots, or never. */
const NOT_HERE: ReadonlySet<SiteKindName> = new Set(['mov_to_dr', 'mov_from_dr', 'wbinvd', 'rdpmc', 'cpuid']);

const SEED = Number(process.env.PREVIRT_SEED ?? Date.now() % 2 ** 31);

const folder = mkdtempSync(join(tmpdir(), 'previrt-moments-'));
const disk = join(folder, 'disk');
const debug = join(folder, 'gdb');
let bare: BareGuest;
let gdb: Gdb;
let offset: number;
let sites: readonly Site[];
/** Addresses. */
let functions: ReadonlyMap<string, number>;

/** Computes, and writes a disk; what it has written it reads again and compares. */
const WORK = [
  'mkdir -p /mnt && mount -t ext2 /dev/vda /mnt',
  '(while :; do seq 2000 | md5sum; usleep 20000; done) > /tmp/sums &',
  '(n=0; while [ ! -e /tmp/enough ]; do n=$((n+1)); seq $n 9999 > /mnt/f$((n%8)); sync; seq $n 9999 | cmp - /mnt/f$((n%8)); usleep 5000; done; echo over) > /tmp/differs 2>&1 &',
];

beforeAll(async () => {
  const { vmlinux } = await buildKernel('annotated');
  const elf = parseElf(readFileSync(vmlinux));
  offset = linkOffset(elf);
  sites = readAllSites(elf);
  functions = new Map(readSymbols(elf).map(({ name, value }) => [name, value]));
  const content = join(folder, 'content');
  mkdirSync(content);
  await makeDisk(disk, 16 * MEBIBYTE, content);
  const initrd = new Uint8Array(readFileSync(await buildInitramfs('glibc')));
  bare = new BareGuest({ elf, memory: 128 * MEBIBYTE, append: '', initrd, disk });
  await bare.boot();
  await bare.expect(/guest# /, LIMIT);
  for (const line of WORK) {
    bare.send(`${line}\n`);
    await bare.expect(/guest# /, LIMIT);
  }
  await bare.qmp.monitor(`gdbserver unix:${debug},server=on,wait=off`);
  gdb = await Gdb.connect(debug);
  await bare.goOn();
}, BUILD_LIMIT);

afterAll(async () => {
  gdb?.close();
  await bare?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** The guest where it stands. */
async function machineNow(): Promise<Machine> {
  const { stream, wallTime } = await bare.stop();
  const kernel = sites.map((site) => ({ ...patchEntry(site, PATCH_NOT_BURNED), owner: 0 }));
  return {
    ...toMachineState(readStream(stream), {
      wallTime,
      owed: 0n,
      linkOffset: offset,
      features: PROCESSORS.pentium3,
    }),
    sites: kernel,
  };
}

/** A copy of the guest goes on as a process, and comes to the end of its work. */
async function goesOn(machine: Machine): Promise<void> {
  const file = join(folder, 'state');
  const copy = join(folder, 'copy');
  copyFileSync(disk, copy);
  const descriptor = openSync(file, 'w');
  writeStateFile(descriptor, machine);
  closeSync(descriptor);
  const guest = new Guest([file, '--target', 'hosted', '--disk', copy], 'resume');
  try {
    guest.send(
      'touch /tmp/enough; until grep -q over /tmp/differs; do sleep 0.1; done; cat /tmp/differs; umount /mnt\n',
    );
    await guest.expect(/^over\r$/m, LIMIT);
    guest.send('sort -u /tmp/sums | wc -l\n');
    await guest.expect(/^1\r$/m, LIMIT);
    guest.send('sleep 1; echo sl"ept"\n');
    await guest.expect(/^slept\r$/m, LIMIT);
    guest.send(`${POWER_OFF[0]}\n`);
    expect((await guest.end(LIMIT)).status).toBe(RUN_STATUS.done);
    await checkDisk(copy);
  } finally {
    await guest.close();
  }
}

/** The guest as it is about to execute an instruction, a moment later after `onward`. Undefined if it does not come there. */
async function standsAt(
  address: number,
  comes: number,
  onward: () => Promise<void>,
): Promise<Machine | undefined> {
  await gdb.stop();
  if (!(await gdb.runTo(address, comes))) return undefined;
  await onward();
  return machineNow();
}

/** Takes the guest over as it is about to execute an instruction. False if it does not come there. */
async function takenAt(address: number, check: (machine: Machine) => void, comes = COMES): Promise<boolean> {
  try {
    const machine = await standsAt(address, comes, async () => {});
    if (!machine) return false;
    check(machine);
    await goesOn(machine);
    return true;
  } finally {
    await bare.goOn();
  }
}

/** Whoever calls the function that is about to be entered gets its return. */
async function toReturn(): Promise<void> {
  const [, , , , esp] = await gdb.registers();
  const [caller] = await gdb.words(esp!, 1);
  expect(await gdb.runTo(caller!, COMES)).toBe(true);
}

interface Requests {
  /** All that are in the ring. */
  readonly announced: boolean;
  /** All that were announced. */
  readonly done: boolean;
  /** That they are. */
  readonly told: boolean;
}

/** How far the requests of the disk's driver have come. */
function requests({ state, ram }: Machine): Requests {
  const { queue_driver, last_avail, used_index, isr } = state.devices.virtio_blk;
  const index = new Uint8Array(2);
  ram.read(guestPhysical(Number(queue_driver) + 2), index);
  return {
    announced: viewOf(index).getUint16(0, true) === last_avail,
    done: used_index === last_avail,
    told: isr === 0,
  };
}

describe(`a guest taken over (PREVIRT_SEED=${SEED})`, () => {
  it(
    'in the shadow of sti, in front of hlt',
    async () => {
      const halt = sites.find(
        ({ address, kind, function: name }, index) =>
          kind === 'hlt' &&
          name === 'default_idle' &&
          sites[index - 1]?.kind === 'sti' &&
          sites[index - 1]!.address + sites[index - 1]!.length === address,
      )!;
      const came = await takenAt(halt.address, ({ state: { cpu } }) => {
        expect(cpu).toMatchObject({ eip: halt.address, shadow: 1, halted: 0 });
        expect(cpu.interrupt_flag).not.toBe(0);
      });
      expect(came).toBe(true);
    },
    TEST_LIMIT,
  );

  it(
    'halted',
    async () => {
      const halts = async (): Promise<boolean> => {
        await bare.qmp.execute('stop');
        return /HLT=1/.test(await bare.qmp.monitor('info registers'));
      };
      while (!(await halts())) {
        await bare.goOn();
        await setTimeout(7);
      }
      try {
        const machine = await machineNow();
        expect(machine.state.cpu).toMatchObject({ halted: 1, shadow: 0 });
        await goesOn(machine);
      } finally {
        await bare.goOn();
      }
    },
    TEST_LIMIT,
  );

  // Driver and device run side by side: the place alone does not say how far they have come.
  // A device that is at work on one request sees the next before it is announced, for instance.
  it.each([
    ['before it is announced', 'vp_notify', async () => {}, { announced: false, done: true, told: true }],
    // The interrupt may have come before that: then they have been told.
    ['that has just been announced', 'vp_notify', toReturn, { announced: true, done: true }],
    [
      'whose interrupt has just come',
      'vp_interrupt',
      async () => {},
      { announced: true, done: true, told: false },
    ],
  ] as const)(
    'with a request of the disk %s',
    async (_, name, onward, wanted) => {
      const found: Requests[] = [];
      try {
        for (;;) {
          const machine = await standsAt(functions.get(name)!, COMES, onward);
          expect(machine).toBeDefined();
          found.push(requests(machine!));
          if (isDeepStrictEqual({ ...found.at(-1), ...wanted }, found.at(-1))) return await goesOn(machine!);
          if (found.length === TIMES) break;
          await bare.goOn();
        }
      } finally {
        await bare.goOn();
      }
      expect(found).toContainEqual(expect.objectContaining(wanted));
    },
    TEST_LIMIT,
  );

  it(
    'at sensitive instructions, in the middle of a count of the i8254',
    async () => {
      const chosen = fc.sample(fc.constantFrom(...sites), { seed: SEED, numRuns: 400 });
      let times = 0;
      for (const { address, kind, section } of chosen) {
        if (times === PLACES) break;
        if (section.startsWith('.init') || section.startsWith('vdso') || NOT_HERE.has(kind)) continue;
        const check = ({ state }: Machine): void => {
          expect(state.cpu.eip).toBe(address);
          const [timer] = state.devices.i8254.channels;
          const clocks = ((state.time - timer!.start) * 1_193_182n) / 1_000_000_000n;
          expect(Number(clocks) % timer!.period).toBeGreaterThan(0);
        };
        if (await takenAt(address, check, 80)) times++;
      }
      expect(times).toBe(PLACES);
    },
    TEST_LIMIT,
  );
});
