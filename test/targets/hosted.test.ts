/** A guest's process and its host: what it has of it, and what it makes of what the host refuses. */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { BIN, smallGuest } from './small-guest.ts';

const TIMEOUT = 60_000;

let work = '';
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'previrt-hosted-'));
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

let run: ChildProcess | undefined;
afterEach(() => void run?.kill('SIGKILL'));

/** Starts a guest of these instructions. @param stdio of the launcher */
function start(name: string, body: string, stdio: (number | 'pipe' | 'ignore')[]): ChildProcess {
  const elf = smallGuest(work, name, 0, body);
  run = spawn(join(BIN, 'previrt'), ['run', elf, '--memory', '32M'], { stdio });
  return run;
}

/** The process of the guest that has been started last. */
function guestProcess(): number {
  const children = readFileSync(`/proc/${run!.pid}/task/${run!.pid}/children`, 'latin1');
  return Number(children.split(' ')[0]);
}

/** A line on the console. */
const WRITES = "mov $0x3f8, %edx; mov $'x', %al; outb %al, %dx; mov $10, %al; outb %al, %dx";

it(
  'has no environment, and no file but its own',
  async () => {
    const secret = openSync('/etc/passwd', 'r');
    const stdio: (number | 'pipe' | 'ignore')[] = Array(100).fill('ignore');
    stdio[1] = 'pipe';
    const { stdout } = start('stays', `${WRITES}; 1: jmp 1b`, [...stdio, secret]);
    closeSync(secret);
    await once(stdout!, 'data');
    const folder = `/proc/${guestProcess()}`;
    expect(readFileSync(`${folder}/environ`, 'latin1')).toBe('');
    const files = readdirSync(`${folder}/fd`).map((fd) => readlinkSync(`${folder}/fd/${fd}`));
    expect(
      files.filter((file) => !/^(pipe|socket|\/memfd|\/dev\/null|\/.*\/boot \(deleted\)$)/.test(file)),
    ).toEqual([]);
  },
  TIMEOUT,
);

/** Where the host shows a file of the guest's process. */
function fileOf(pid: number, name: RegExp): string {
  const folder = `/proc/${pid}/fd`;
  return join(folder, readdirSync(folder).find((fd) => name.test(readlinkSync(join(folder, fd))))!);
}

it(
  'ends and says so when the host has no page for it',
  async () => {
    const body = `${WRITES}; 1: mov 0x1000000, %eax; jmp 1b`;
    const { stdout, stderr } = start('reads_memory', body, ['ignore', 'pipe', 'pipe']);
    const messages = text(stderr!);
    await once(stdout!, 'data');
    const ram = fileOf(guestProcess(), /previrt-ram/);
    // Nor may there ever be more of it, whoever writes.
    expect(() => truncateSync(ram, 0x4000000)).toThrow('EPERM');
    truncateSync(ram, 0x800000);
    expect(await once(run!, 'close')).toEqual([1, null]);
    expect(await messages).toContain('previrt: the host has no memory left for the guest\n');
  },
  TIMEOUT,
);

it(
  'goes on when a file may not become larger, and says what it cannot have',
  () => {
    const elf = smallGuest(work, 'writes', 0, WRITES);
    const output = join(work, 'output');
    const limited = (kibibytes: number): ReturnType<typeof spawnSync> =>
      spawnSync('bash', [
        '-c',
        `ulimit -f ${kibibytes}; ${BIN}/previrt run ${elf} --memory 32M >> ${output}`,
      ]);
    writeFileSync(output, '');
    truncateSync(output, 60 << 20);
    expect(limited(60 << 10).status).toBe(0);
    const { status, stderr } = limited(20 << 10);
    expect(String(stderr)).toContain('previrt: cannot size guest RAM');
    expect(status).toBe(1);
  },
  TIMEOUT,
);
