/** The machine state of a real guest: the command tells of it, and a debugger walks its memory by the kernel's symbols. */

import { execFile } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildInitramfs } from '../../guests/linux/initramfs.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { request } from '../../src/cli/control.ts';
import { readStateFile } from '../../src/machine/state-reader.ts';
import { writeStateFile } from '../../src/machine/state-writer.ts';
import { wallTime } from '../../src/targets/wall-time.ts';
import { Guest, PREVIRT } from './guest.ts';

const LIMIT = 120_000;
const BUILD_LIMIT = 1_800_000;
const run = promisify(execFile);

let folder: string;
let initrd: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'previrt-state-'));
  initrd = await buildInitramfs('glibc');
}, BUILD_LIMIT);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A copy of a state as if the guest had stopped so many seconds ago; by how many its clock will be ahead then. */
function aged(from: string, to: string, seconds: number): number {
  const [source, copy] = [openSync(from, 'r'), openSync(to, 'w')];
  try {
    const { state, ...rest } = readStateFile(source);
    const wall_time = wallTime() - BigInt(seconds) * 1_000_000_000n;
    writeStateFile(copy, { ...rest, state: { ...state, wall_time } });
    return Number(state.wall_time - wall_time) / 1e9;
  } finally {
    closeSync(source);
    closeSync(copy);
  }
}

describe.each([
  ['usual', '32-bit paging'],
  ['pae', 'PAE paging'],
] as const)('%s kernel', (configuration, paging) => {
  const at = (name: string): string => join(folder, `${configuration}-${name}`);
  let kernel: string;
  beforeAll(async () => {
    kernel = (await buildKernel('annotated', configuration)).vmlinux;
    const guest = new Guest([kernel, '--control', at('control'), '--initrd', initrd]);
    try {
      await guest.expect(/guest# /, LIMIT);
      for (const name of ['first', 'second']) {
        await request(at('control'), { snapshot: { file: at(name), compress: name === 'second' } });
        guest.send('echo go""es on\n');
        await guest.expect(/goes on\r\n/, LIMIT);
      }
    } finally {
      await guest.close();
    }
  }, BUILD_LIMIT);

  it('the command tells what it holds, and in what two differ', async () => {
    const { stdout } = await run(PREVIRT, ['state', at('first')]);
    expect(stdout).toContain('format 1, virtual PC 1, checksums ok\nRAM 128 MiB: ');
    expect(stdout).toContain(`CPU: protected mode, ${paging}, CPL `);
    const difference = await run(PREVIRT, ['state', at('first'), '--diff', at('second'), '--json']);
    const { fields, sites, ram } = JSON.parse(difference.stdout);
    expect(fields.map(({ field }: { field: string }) => field)).toContain('wall_time');
    expect(sites).toBe(0);
    expect(ram.pages).toBeGreaterThan(0);
    expect(ram.pages).toBeLessThan(5000);
  });

  it(
    'a compressed one goes on, and reads what was typed before it was there',
    async () => {
      const guest = new Guest([at('second')], 'resume');
      try {
        guest.send('echo goes on com""pressed\n');
        await guest.expect(/goes on compressed\r\n/, LIMIT);
        guest.signal('SIGTERM');
        expect(await guest.end(LIMIT)).toMatchObject({ left: [], orphans: [] });
      } finally {
        await guest.close();
      }
    },
    LIMIT,
  );

  it(
    'an old one goes on at once, and its clock is right after a while',
    async () => {
      const ahead = aged(at('first'), at('old'), 600);
      const guest = new Guest([at('old')], 'resume');
      try {
        const missing = async (): Promise<number> => {
          guest.send('echo at $(date +%s).\n');
          const [, seconds] = await guest.expect(/at (\d+)\./, LIMIT);
          return Math.abs(Date.now() / 1000 + ahead - Number(seconds));
        };
        // The first is typed before the guest is there: it catches up some 200 s in each.
        expect(await missing()).toBeGreaterThan(100);
        await expect.poll(missing, { timeout: LIMIT }).toBeLessThan(2);
        guest.signal('SIGTERM');
        expect((await guest.end(LIMIT)).messages).not.toContain('days');
      } finally {
        await guest.close();
      }
    },
    LIMIT,
  );

  it(
    'of one that is too old for that it is said',
    async () => {
      aged(at('first'), at('older'), 3 * 86_400);
      const guest = new Guest([at('older')], 'resume');
      try {
        guest.send('\n');
        await guest.expect(/guest# /, LIMIT);
        guest.signal('SIGTERM');
        expect((await guest.end(LIMIT)).messages).toContain(
          "previrt: the state is 3.0 days old: the guest's clock will be 2.0 days behind, until it is set",
        );
      } finally {
        await guest.close();
      }
    },
    LIMIT,
  );

  it('gdb finds the kernel in it', async () => {
    const commands = ['x/s &linux_banner', 'x/s *(char **)&saved_command_line'];
    const { stdout } = await run('gdb', [
      ...['-nx', '-batch', '-iex', 'set debuginfod enabled off'],
      ...commands.flatMap((command) => ['-ex', command]),
      ...['-c', at('first'), kernel],
    ]);
    expect(stdout).toMatch(/<linux_banner>:\s+"Linux version 6\.1/);
    expect(stdout).toContain('"console=ttyS0 reservetop=');
  });
});
