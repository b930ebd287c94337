/** A guest's process and its host: what it has of it, and what it makes of what the host refuses. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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

const WRITES_AND_STAYS =
  "mov $0x3f8, %edx; mov $'x', %al; outb %al, %dx; mov $10, %al; outb %al, %dx; 1: jmp 1b";

it(
  'has no environment, and no file but its own',
  async () => {
    const secret = openSync('/etc/passwd', 'r');
    const stdio: (number | 'pipe' | 'ignore')[] = Array(100).fill('ignore');
    stdio[1] = 'pipe';
    const { stdout } = start('stays', WRITES_AND_STAYS, [...stdio, secret]);
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
