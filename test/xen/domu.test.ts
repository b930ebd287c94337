/** The guest of a few lines as a domain that xl starts in an initial domain of Debian's. */

import { readFileSync } from 'node:fs';
import { beforeAll, expect, test } from 'vitest';
import { buildDom0, DOM0_VERSION } from '../../guests/xen/dom0.ts';
import { runDomU } from '../../guests/xen/domu.ts';
import { buildXen } from '../../guests/xen/hypervisor.ts';
import { RUN_STATUS } from '../../src/targets/target.ts';
import { withConsole } from './console.ts';
import { buildWords } from './words.ts';

const BUILD_LIMIT = 20 * 60_000;
/** One takes some 15 s; on a busy machine more. */
const LIMIT = 240_000;
const MiB = 2 ** 20;

let words: Uint8Array;

beforeAll(async () => {
  words = readFileSync(await buildWords());
  await buildXen(DOM0_VERSION);
  await buildDom0();
}, BUILD_LIMIT);

const run = (commandLine: string, { kernel = words, memory = 16 * MiB, typed = '' } = {}) =>
  withConsole(typed, (console) =>
    runDomU({ kernel, commandLine, memory, console, signal: AbortSignal.timeout(LIMIT) }),
  );

test('the guest prints and reads, and powers off', { timeout: LIMIT }, async () => {
  const typed = `${'\x01\x1d\x03 0123456789'.repeat(20)}\n`;
  const lines = Array.from({ length: 3000 }, (_, line) => `${line}\n`).join('');
  const result = await run('line fill:3000 shutdown:0', { typed });
  expect(result).toEqual({ status: RUN_STATUS.done, output: typed + lines, messages: '' });
});

test('the guest says how it ends', { timeout: LIMIT }, async () => {
  const result = await run('print:last_words|previrt:_status_3| shutdown:1');
  expect(result).toEqual({ status: RUN_STATUS.panic, output: 'last words\n', messages: '' });
});

test('a crash', { timeout: LIMIT }, async () => {
  const result = await run('print:before| invalid');
  expect(result).toMatchObject({ status: RUN_STATUS.crash, output: 'before\n' });
  expect(result.messages).toContain('#UD');
});

test.each<[string, { kernel?: Uint8Array; memory?: number }, RegExp]>([
  ['too little memory', { memory: MiB }, /^too little memory for the domain: /],
  ['nonsense as a kernel', { kernel: Buffer.alloc(5000) }, /^Xen does not take this kernel: /],
])('refused in a line: %s', { timeout: LIMIT }, async (_, settings, message) => {
  await expect(run('spin', settings)).rejects.toMatchObject({
    name: 'InputError',
    message: expect.stringMatching(message),
  });
});
