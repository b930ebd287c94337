/** What is typed to the wedge: bytes for the guest, commands and the escape. */

import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  FEATURES_COMMAND,
  GO_ON_COMMAND,
  reburnCommand,
  STOP_COMMAND,
  typed,
} from '../../src/targets/command.ts';
import { Harness } from './harness.ts';

let harness: Harness;

beforeAll(() => {
  harness = new Harness('console', ['run/console.c']);
});

afterAll(() => harness.remove());

const hex = (...bytes: readonly (string | Uint8Array)[]): string =>
  Buffer.concat(bytes.map((part) => Buffer.from(part as string))).toString('hex');

/** What each poll tells. */
function told(...lines: readonly string[]): string[] {
  const output = execFileSync(harness.program, { input: `${lines.join('\n')}\n`, encoding: 'utf8' });
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
