/** Xen and QEMU with a guest of a few lines as the initial domain. */

import { fstatSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packagesRoot } from '../../guests/linux/debian.ts';
import { buildXen } from '../../guests/xen/hypervisor.ts';
import { XEN_VERSIONS } from '../../guests/xen/release.ts';
import { type GuestConsole, RUN_STATUS } from '../../src/targets/target.ts';
import { runXen, type XenRun } from '../../src/targets/xen/hypervisor.ts';
import { withConsole } from './console.ts';
import { buildWords } from './words.ts';

/** Building a Xen takes minutes, if no one has done so yet. */
const BUILD_LIMIT = 20 * 60_000;
/** The version that most tests take. */
const USUAL = '4.17';
const MiB = 2 ** 20;
const ELF = Buffer.from('\x7fELF', 'latin1');

const folder = mkdtempSync(join(tmpdir(), 'previrt-test-'));
let words: string;
let usual: string;

beforeAll(async () => {
  words = await buildWords();
  usual = await buildXen(USUAL);
}, BUILD_LIMIT);
afterAll(() => rmSync(folder, { recursive: true }));

interface Settings extends Partial<XenRun> {
  readonly typed?: string;
}

const start = (commandLine: string, console: GuestConsole, settings: Partial<XenRun>) =>
  runXen({
    xen: usual,
    kernel: words,
    commandLine,
    memory: 16 * MiB,
    console,
    signal: AbortSignal.timeout(50_000),
    ...settings,
  });

/** Runs the words to their end. */
const run = (commandLine: string, { typed = '', ...settings }: Settings = {}) =>
  withConsole(typed, (console) => start(commandLine, console, settings));

test.for(XEN_VERSIONS)('a 32-bit guest on Xen %s', { timeout: BUILD_LIMIT }, async (version) => {
  const xen = await buildXen(version);
  const result = await run('print:Hello_Xen| shutdown:1', { xen });
  expect(result).toEqual({ status: RUN_STATUS.done, output: 'Hello Xen\n', messages: '' });
});

test.each([
  ['powers off', 'shutdown:0', RUN_STATUS.done],
  ['says how it ends', 'print:previrt:_status_3| shutdown:1', RUN_STATUS.panic],
  ['ends with a status that nobody knows', 'print:previrt:_status_9| shutdown:1', RUN_STATUS.crash],
])('the guest %s', async (_, commandLine, status) => {
  expect(await run(commandLine)).toMatchObject({ status, output: '' });
});

test.each([
  ['asks for it', 'shutdown:3', 'Hardware Dom0 crashed'],
  ['executes nonsense', 'invalid', '#UD'],
])('a crash when the guest %s', async (_, commandLine, says) => {
  const result = await run(`print:before| ${commandLine}`);
  expect(result).toMatchObject({ status: RUN_STATUS.crash, output: 'before\n' });
  expect(result.messages).toContain(says);
});

test('all that the guest prints, in order, also when nobody reads for a while', async () => {
  const ended = run('fill:20000 shutdown:1');
  setTimeout(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 3000), 1000);
  expect((await ended).output).toBe(Array.from({ length: 20_000 }, (_, line) => `${line}\n`).join(''));
});

test('the guest reads what is typed', async () => {
  const typed = `${'0123456789'.repeat(40)}\n`;
  const { output } = await run('print:> line shutdown:1', { typed });
  expect(output).toBe(`>${typed}`);
});

test('the guest reads before it prints', async () => {
  const { output } = await run('line shutdown:1', { typed: 'first\n' });
  expect(output).toBe('first\n');
});

test('an aborted run ends', async () => {
  const ended = new AbortController();
  const { status, output } = await withConsole('', async (console) => {
    const ran = start('print:on spin', console, { signal: ended.signal });
    await expect.poll(() => fstatSync(console.output).size, { timeout: 50_000 }).toBe('on'.length);
    ended.abort();
    return ran;
  });
  expect({ status, output }).toEqual({ status: RUN_STATUS.host, output: 'on' });
});

test.each<[string, Settings, RegExp]>([
  ['too little memory', { memory: MiB }, /^too little memory for the domain: /],
  ['no Xen', { xen: join(folder, 'none') }, /none: there is no Xen/],
  [
    'nonsense as a kernel',
    { kernel: Buffer.concat([ELF, Buffer.alloc(8192)]) },
    /^Xen does not take this kernel/,
  ],
  ['a kernel that is not for Xen', { kernel: '/bin/sh' }, /^Xen does not take this kernel/],
  [
    'too long a command line',
    { commandLine: 'x'.repeat(1024) },
    /^the command line has more than 1023 bytes/,
  ],
])('refused in a line: %s', async (_, settings, message) => {
  await expect(run('spin', settings)).rejects.toMatchObject({
    name: 'InputError',
    message: expect.stringMatching(message),
  });
});

test('refused in a line: a Xen without 32-bit guests, as Debian has it', async () => {
  const root = await packagesRoot('amd64', ['xen-hypervisor-4.17-amd64']);
  const path = join(folder, 'xen-of-debian');
  writeFileSync(path, gunzipSync(readFileSync(join(root, 'boot/xen-4.17-amd64.gz'))));
  await expect(run('spin', { xen: path })).rejects.toThrow(
    /^this Xen takes no 32-bit paravirtualized guests/,
  );
});

test('refused in a line: no QEMU', async () => {
  const path = process.env.PATH;
  process.env.PATH = folder;
  try {
    await expect(run('spin')).rejects.toThrow(/^cannot start qemu-system-x86_64/);
  } finally {
    process.env.PATH = path;
  }
});
