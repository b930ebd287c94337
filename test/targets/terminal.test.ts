/** A guest on a terminal, which script(1) makes. */

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, it } from 'vitest';
import { runs } from '../boots/guest.ts';
import { BIN, smallGuest } from './small-guest.ts';

const TIMEOUT = 60_000;
const POLL = { timeout: TIMEOUT / 2 };

const work = mkdtempSync(join(tmpdir(), 'previrt-terminal-'));
afterAll(() => rmSync(work, { recursive: true, force: true }));
const MESSAGES = join(work, 'messages');
const messages = (): string => readFileSync(MESSAGES, 'utf8');

let script: ChildProcess;
/** What it has shown and nobody has looked at: a terminal passes on a line in pieces. */
let shown: string;
const shows = async (pattern: RegExp): Promise<void> => {
  await expect.poll(() => shown, POLL).toMatch(pattern);
  shown = '';
};
/** previrt's process. */
let launcher: number;

beforeEach(async () => {
  const elf = smallGuest(
    work,
    'stays',
    0,
    "mov $0x3f8, %edx; mov $'x', %al; outb %al, %dx; mov $10, %al; outb %al, %dx; 1: jmp 1b",
  );
  const pid = join(work, 'pid');
  // What script has started itself must not stop: it would stop too.
  const command = `sh -c 'echo $$ > ${pid}; exec ${BIN}/previrt run ${elf} --memory 32M 2> ${MESSAGES}'; echo status $?`;
  script = spawn('script', ['--quiet', '--command', command, '/dev/null'], { stdio: 'pipe' });
  shown = '';
  script.stdout!.setEncoding('latin1').on('data', (text: string) => {
    shown += text;
  });
  await shows(/^x\r\n$/);
  launcher = Number(readFileSync(pid, 'latin1'));
}, TIMEOUT);
afterEach(() => void script.kill('SIGKILL'));

const terminal = (): string => readlinkSync(`/proc/${launcher}/fd/0`);
const stty = (...settings: string[]): string =>
  execFileSync('stty', ['-F', terminal(), ...settings], { encoding: 'latin1' });

it(
  'has it in raw mode, again after both were stopped and a shell had it, and gives it back',
  async () => {
    const before = /(?<!-)icanon/;
    const raw = /-icanon/;
    expect(stty('-a')).toMatch(raw);
    process.kill(launcher, 'SIGSTOP');
    stty('sane');
    expect(stty('-a')).toMatch(before);
    process.kill(launcher, 'SIGCONT');
    await expect.poll(() => stty('-a'), POLL).toMatch(raw);
    process.kill(launcher, 'SIGTERM');
    await shows(/^status 1\r\n/);
  },
  TIMEOUT,
);

it(
  'ends with it',
  async () => {
    const [guest] = readFileSync(`/proc/${launcher}/task/${launcher}/children`, 'latin1')
      .split(' ')
      .map(Number);
    script.kill('SIGKILL');
    await expect.poll(() => runs(launcher) || runs(guest!), POLL).toBe(false);
    expect(messages()).not.toMatch(/error|Assertion/);
  },
  TIMEOUT,
);

it(
  'is ended from there even if it hangs',
  async () => {
    script.stdin!.write('\x01x');
    await shows(/^status 0\r\n/);
  },
  TIMEOUT,
);
