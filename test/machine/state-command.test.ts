/** `previrt state`: the command on files, good and bad. */

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { memoryRam } from '../../src/machine/ram.ts';
import type { Machine } from '../../src/machine/state.ts';
import { guestVirtual } from '../../src/x86/address.ts';
import { machineOf, PAGINGS, StateFolder } from './state-fixture.ts';

const PREVIRT = join(import.meta.dirname, '..', '..', 'bin', 'previrt');
const folder = new StateFolder();
const MIB = 2 ** 20;

const site = (address: number, domain: number, owner: number) => ({
  address: guestVirtual(address),
  length: 5,
  widening: 4,
  domain,
  kind: 1,
  flags: 0,
  entry: 3,
  original: Uint8Array.of(0x2e, 0x2e, 0x2e, 0x2e, 0xfa),
  owner,
});

/** A guest with two sites of its own and one of a module. */
function machine(change: (ram: Uint8Array) => void = () => {}): Machine {
  const ram = new Uint8Array(16 * MIB);
  ram.fill(0xaa, 4 * MIB, 6 * MIB);
  const cpu = PAGINGS['pages of 4 MiB']!(ram);
  change(ram);
  const { state } = machineOf(ram, {
    ...cpu,
    eip: 0xc010_1234,
    interrupt_flag: 0x200,
    eflags: 0x46,
    halted: 1,
  });
  return {
    state: { ...state, time: 12_345_678_901n, wall_time: 1_700_000_000_000_000_000n, domains: 0b10 },
    sites: [site(0xc010_0000, 1, 0), site(0xc010_0010, 2, 0), site(0xf800_0000, 1, 0xf800_1000)],
    ram: memoryRam(ram),
  };
}

const run = (...args: string[]) => {
  const { status, stdout, stderr } = spawnSync(PREVIRT, args, {
    cwd: folder.path,
    encoding: 'utf8',
    env: { ...process.env, PREVIRT_DEBUG: '' },
  });
  return { status, stdout, stderr };
};
const previrt = (...args: string[]) => run('state', ...args);

let bytes: Uint8Array;
beforeAll(() => {
  bytes = folder.write('one', machine());
  previrt('--help'); // makes the bundle
});
afterAll(() => folder.remove());

it('tells what a person wants to know', () => {
  const { status, stdout, stderr } = previrt('one');
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  for (const line of [
    'one: machine state, format 1, virtual PC 1, checksums ok',
    'RAM 16 MiB: 2 MiB present (2 MiB in the file), 14 MiB zero',
    'time 12.346 s since power-on; wall clock 2023-11-14T22:13:20.000Z',
    'CPU: protected mode, 32-bit paging, CPL 0, halted',
    'eip c0101234  eflags 00000246 (PF ZF IF)',
    '2 sites of the kernel, 1 site of 1 module (burned: cpu)',
  ])
    expect(stdout).toContain(line);
  expect(stdout).toMatch(/^f8001000 +1$/m);
});

it('tells everything as JSON', () => {
  const summary = JSON.parse(previrt('one', '--json').stdout);
  expect(summary).toMatchObject({
    formatVersion: 1,
    ram: { size: 16 * MIB, present: 2 * MIB + 4096, zero: 14 * MIB - 4096 },
    sites: { kernel: 2, modules: [{ name: 'f8001000', count: 1 }] },
    state: { time: '0x2dfdc1c35', cpu: { eip: 0xc010_1234, halted: 1 }, devices: { i8259: [{}, {}] } },
  });
});

it('tells in what two differ', () => {
  const other = machine((ram) => {
    ram[0x5000] = 1;
    ram[0x5fff] = 1;
    ram[8 * MIB + 10] = 1;
  });
  const cpu = { ...other.state.cpu, gpr: [9, 0, 0, 0, 0, 0, 0, 0] };
  folder.write(
    'two',
    { ...other, state: { ...other.state, cpu }, sites: other.sites.slice(1) },
    { compress: true },
  );
  const { stdout } = previrt('one', '--diff', 'two');
  expect(stdout).toMatch(/^cpu\.gpr\[0\] +0x0 +0x9$/m);
  expect(stdout).toContain('1 field, 1 site and 2 pages of RAM differ, the first at 0x00005000\n');
  expect(JSON.parse(previrt('one', '--diff', 'two', '--json').stdout)).toEqual({
    fields: [{ field: 'cpu.gpr[0]', first: 0, second: 9 }],
    sites: 1,
    ram: { pages: 2, first: 0x5000 },
  });
  expect(previrt('one', '--diff', 'one').stdout).toBe('0 fields, 0 sites and 0 pages of RAM differ\n');
});

it('refuses what is not in order with one line', () => {
  const damaged = new Uint8Array(bytes);
  damaged[damaged.length - 16 * MIB + 5 * MIB]! ^= 1; // RAM comes last
  writeFileSync(folder.file('damaged'), damaged);
  writeFileSync(folder.file('short'), bytes.subarray(0, 5 * MIB));
  writeFileSync(folder.file('text'), 'hello, this is none and it is long enough to have a header of ELF');
  writeFileSync(folder.file('hello'), 'hello');
  writeFileSync(folder.file('none'), '');
  const refused = (name: string) => {
    const { status, stdout, stderr } = previrt(name);
    expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
    return stderr;
  };
  expect(refused('damaged')).toBe(
    'previrt: damaged: RAM block at 0x00500000 does not have its checksum: the file is damaged\n',
  );
  expect(refused('short')).toMatch(
    /^previrt: short: truncated: its segments end at 0x1[0-9a-f]{6}, the file at 0x500000\n$/,
  );
  for (const name of ['text', 'hello', 'none'])
    expect(refused(name)).toMatch(RegExp(`^previrt: ${name}: not a machine state file; .*\\n$`));
  const piped = spawnSync('sh', ['-c', `cat one | "${PREVIRT}" state /dev/stdin`], { cwd: folder.path });
  expect(piped.stderr.toString()).toBe('previrt: cannot read /dev/stdin: is a pipe, and has to be a file\n');
  expect(refused('missing')).toBe('previrt: cannot read missing: no such file or directory\n');
  expect(refused('.')).toBe('previrt: cannot read .: is a directory\n');
  expect(run('resume', '.').stderr).toBe('previrt: cannot read .: is a directory\n');
  expect(previrt('one', '--diff', 'damaged').stderr).toMatch(/^previrt: damaged: RAM block/);
});
