/** `previrt burn` of a machine state for Xen, and the configuration for it. */

import { spawnSync } from 'node:child_process';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parseElf } from '../../src/elf/image.ts';
import { PT } from '../../src/elf/structs.ts';
import { memoryRam } from '../../src/machine/ram.ts';
import type { Machine } from '../../src/machine/state.ts';
import { WEDGE_BASE } from '../../src/substitution/entries.ts';
import { machineIn } from '../../src/targets/xen/image.ts';
import { resumedDomain } from '../../src/targets/xen/target.ts';
import { guestPhysical } from '../../src/x86/address.ts';
import { machineOf, PAGINGS, StateFolder } from '../machine/state-fixture.ts';

const PREVIRT = join(import.meta.dirname, '..', '..', 'bin', 'previrt');
const folder = new StateFolder();
afterAll(() => folder.remove());

const MIB = 2 ** 20;
const PAGE = 4096;
const ram = new Uint8Array(32 * MIB).fill(0x55, 8 * MIB, 9 * MIB);
const machine: Machine = { ...machineOf(ram, PAGINGS['pages of 4 MiB']!(ram)), ram: memoryRam(ram) };
const { devices } = machine.state;
const withDisk = {
  ...machine.state,
  devices: { ...devices, virtio_blk: { ...devices.virtio_blk, status: 15 } },
};

const previrt = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(PREVIRT, args, {
    cwd: folder.path,
    encoding: 'utf8',
    env: { ...process.env, PREVIRT_DEBUG: '' },
  });
  return { status, stdout, stderr };
};

beforeAll(() => {
  folder.write('state', machine);
  folder.write('packed', machine, { compress: true });
  folder.write('disk', { ...machine, state: withDisk });
  previrt('burn', 'state', '--target', 'xen', '-o', 'guest'); // makes bundle and wedge
}, 300_000);

it('is a domain with the pages that are not zero, right below the wedge', () => {
  expect(previrt('burn', 'state', '--target', 'xen', '-o', 'guest')).toMatchObject({
    status: 0,
    stderr: '',
    stdout: expect.stringMatching(/^guest: a domain in which the guest of state goes on; [\d.]+ MB\n$/),
  });
  const image = parseElf(readFileSync(folder.file('guest')));
  const [memory] = image.segments.filter(({ p_type }) => p_type === PT.LOAD);
  expect(memory!.p_vaddr + memory!.p_memsz).toBe(WEDGE_BASE);
  const content = Buffer.from(image.bytes.subarray(memory!.p_offset, memory!.p_offset + memory!.p_filesz));
  const start = content.indexOf(Buffer.alloc(PAGE, 0x55));
  expect(start % PAGE).toBe(0);
  expect(content.subarray(start, start + MIB).every((byte) => byte === 0x55)).toBe(true);
  expect(machineIn(image)).toEqual({ memory: ram.length, usesDisk: false });
  // All of the guest's memory is in it.
  expect(statSync(folder.file('guest')).mode & 0o777).toBe(0o600);
});

it('is the same from a compressed state', () => {
  previrt('burn', 'state', '--target', 'xen', '-o', 'one');
  previrt('burn', 'packed', '--target', 'xen', '-o', 'two');
  expect(readFileSync(folder.file('one')).equals(readFileSync(folder.file('two')))).toBe(true);
});

it('a guest that uses a disk is not started without', () => {
  expect(previrt('burn', 'disk', '--target', 'xen', '-o', 'guest', '--json')).toMatchObject({ status: 0 });
  expect(previrt('xl-config', 'guest')).toEqual({
    status: 1,
    stdout: '',
    stderr: 'previrt: guest: the guest uses a disk; give its image with --disk\n',
  });
  expect(previrt('xl-config', 'guest', '--disk', '/dev/vg/guest').stdout).toContain('target=/dev/vg/guest');
});

it('what cannot be', () => {
  expect(previrt('burn', 'state', '--target', 'hosted', '-o', 'guest').stderr).toBe(
    'previrt: state: a machine state; previrt resume takes it up as it is\n',
  );
  expect(previrt('burn', 'state', '--target', 'xen', '--memory', '64M', '-o', 'guest').stderr).toContain(
    'are for kernels',
  );
  writeFileSync(folder.file('cut'), readFileSync(folder.file('state')));
  truncateSync(folder.file('cut'), 20 * MIB);
  expect(previrt('burn', 'cut', '--target', 'xen', '-o', 'guest').stderr).toMatch(
    /^previrt: cut: truncated: .*\n$/,
  );
});

it('more memory than can be handed over is refused before it is copied', () => {
  const size = 1024 * MIB;
  let most = 0;
  const full: Machine['ram'] = {
    size,
    extents: [{ start: guestPhysical(0), size }],
    read(_start, into) {
      into.fill(1);
      most = Math.max(most, process.memoryUsage().arrayBuffers);
    },
  };
  const before = process.memoryUsage().arrayBuffers;
  expect(() => resumedDomain(new Uint8Array(), { ...machine, ram: full }, [])).toThrow(
    `the machine has ${size} bytes to begin with`,
  );
  expect(most - before).toBeLessThan(64 * MIB);
});
