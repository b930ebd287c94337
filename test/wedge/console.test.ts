/** What is typed to the wedge: bytes for the guest, commands and the escape. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  FEATURES_COMMAND,
  GO_ON_COMMAND,
  reburnCommand,
  STOP_COMMAND,
  typed,
} from '../../src/targets/command.ts';
import { hostedHeaders } from '../../src/targets/hosted/headers.ts';

const WEDGE = fileURLToPath(new URL('../../wedge', import.meta.url));
const HARNESS = fileURLToPath(new URL('./console-harness.c', import.meta.url));

let work = '';

beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'previrt-console-'));
  for (const [path, text] of hostedHeaders()) {
    mkdirSync(dirname(join(work, path)), { recursive: true });
    writeFileSync(join(work, path), text);
  }
  const flags = ['-O1', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover', '-w'];
  const sources = [HARNESS, join(WEDGE, 'run/console.c')];
  execFileSync('gcc', [...flags, `-I${work}`, `-I${WEDGE}`, '-o', join(work, 'harness'), ...sources]);
});

afterAll(() => rmSync(work, { recursive: true, force: true }));

const hex = (...bytes: readonly (string | Uint8Array)[]): string =>
  Buffer.concat(bytes.map((part) => Buffer.from(part as string))).toString('hex');

/** What each poll tells. */
function told(...lines: readonly string[]): string[] {
  const output = execFileSync(join(work, 'harness'), { input: `${lines.join('\n')}\n`, encoding: 'utf8' });
  return output
    .split('\n')
    .slice(0, -1)
    .map((line) => line.trim());
}

const CTRL_A = '\x01';

describe('what is typed', () => {
  it('goes to the guest in order, as it reads, and commands out of it', () => {
    const input = hex('ab', FEATURES_COMMAND, typed(Buffer.from('c\x10d')), reburnCommand(['cpu']), 'e');
    expect(told('room 3', `type ${input}`, 'poll', 'poll', 'room 9', 'poll')).toEqual([
      '61 62 features 63 reburn-2',
      '',
      '10 64 65',
    ]);
  });

  it('does not hold up a command if the guest does not read', () => {
    const lines = [
      `type ${hex('typed', FEATURES_COMMAND)}`,
      'poll',
      `type ${hex('more', reburnCommand(['cpu']))}`,
    ];
    expect(told(...lines, 'poll')).toEqual(['features', 'reburn-2']);
  });

  it('does not hold up the escape', () => {
    expect(told(`type ${hex('typed', `${CTRL_A}x`)}`, 'poll')).toEqual(['ended']);
  });

  it('comes before a stop as long as the guest reads, and waits behind it if it does not', () => {
    const lines = [`type ${hex('abc', STOP_COMMAND)}`, 'poll', 'time 1500000000', 'room 1', 'poll'];
    expect(told(...lines, 'room 2', 'time 3400000000', 'poll')).toEqual(['', '61', '62 63 stop']);
    expect(told(...lines, 'time 3400000000', 'poll', 'time 3500000000', 'poll', 'room 2', 'poll')).toEqual([
      '',
      '61',
      '',
      'report stop',
      '62 63',
    ]);
    expect(told(...lines, `type ${hex(GO_ON_COMMAND)}`, 'poll', 'time 9500000000', 'room 2', 'poll')).toEqual(
      ['', '61', 'go', '62 63'],
    );
    expect(told(`type ${hex(STOP_COMMAND)}`, 'poll')).toEqual(['stop']);
  });

  it('is not lost, however much it is', () => {
    const all = Buffer.from(Array.from({ length: 30_000 }, (_, index) => 32 + (index % 90)));
    const polls = Array.from({ length: 200 }, () => 'poll');
    const bytes = told(`type ${all.toString('hex')}`, ...polls, 'room 30000', ...polls).join(' ');
    expect(Buffer.from(bytes.replaceAll(' ', ''), 'hex').equals(all)).toBe(true);
  });
});
