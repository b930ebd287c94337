/** `previrt snapshot --xl`, with an xl that only notes what it is told: what happens in which order, also if something fails. */

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { memoryRam } from '../../src/machine/ram.ts';
import { allOf, machineOf, PAGINGS, StateFolder } from '../machine/state-fixture.ts';
import { coreOf, domainOf, scrambled } from './core-fixture.ts';

const PREVIRT = join(import.meta.dirname, '..', '..', 'bin', 'previrt');
const folder = new StateFolder();
afterAll(() => folder.remove());

const ram = new Uint8Array(4 * 2 ** 20).fill(7, 2 ** 20);
/** Bytes of RAM that take a while to write. */
const LARGE = 128 * 2 ** 20;
const machine = { ...machineOf(ram, PAGINGS['pages of 4 MiB']!(ram)), ram: memoryRam(ram) };

/**
 * Its domains are files: the first core that is dumped is of a guest that still runs. `ends` has
 * a signal and a command, at which a terminal ends xl and whoever has started it.
 */
const XL = `#!/bin/sh
cd "$(dirname "$0")"
echo "$@" >>told
[ -e ends ] && read -r signal at <ends && case "$1 $3" in "$at"*) kill -"$signal" $PPID $$ ;; esac
[ "$2" = guest ] || { echo "$2 is an invalid domain identifier" >&2; exit 1; }
[ "$1" = dump-core ] || exit 0
[ -e damaged ] && { head -c 5000 still >"$3"; exit 0; }
[ -e dumped ] && { cp still "$3"; exit 0; }
touch dumped
cp running "$3"
`;

const host = folder.file('host');
beforeAll(() => {
  mkdirSync(host);
  writeFileSync(join(host, 'xl'), XL);
  chmodSync(join(host, 'xl'), 0o755);
  writeFileSync(join(host, 'still'), coreOf(domainOf(machine, scrambled(1))));
  writeFileSync(join(host, 'running'), coreOf(domainOf(machine, scrambled(1), { told_frame: 0 })));
  spawnSync(PREVIRT, ['--help']); // makes the bundle
}, 120_000);
beforeEach(() => {
  for (const name of ['told', 'dumped', 'damaged', 'ends']) rmSync(join(host, name), { force: true });
  rmSync(folder.file('out'), { recursive: true, force: true });
  mkdirSync(folder.file('out'));
});

const previrt = (args: readonly string[], path = `${host}${delimiter}${process.env.PATH}`) => {
  const { status, stdout, stderr } = spawnSync(PREVIRT, ['snapshot', ...args], {
    cwd: folder.file('out'),
    encoding: 'utf8',
    env: { ...process.env, PATH: path, PREVIRT_DEBUG: '' },
  });
  return { status, stdout, stderr };
};

/** What xl was told, without the file's path. */
const told = (): string[] =>
  readFileSync(join(host, 'told'), 'utf8')
    .trim()
    .split('\n')
    .map((line) => line.split(' ').slice(0, 3).join(' ').replace(/\/.*/, 'FILE'));

it.each([
  ['goes on', [], 'sysrq guest G'],
  ['ends there', ['--end'], 'sysrq guest Q'],
])('the guest stands still until its state is written, and %s', (_, flags, last) => {
  expect(previrt(['guest', '--xl', '-o', 'state', ...flags])).toMatchObject({ status: 0, stderr: '' });
  expect(told()).toEqual(['sysrq guest S', 'dump-core guest FILE', 'dump-core guest FILE', last]);
  expect(readdirSync(folder.file('out'))).toEqual(['state']);
  folder.read('out/state', (read) => expect(Buffer.compare(allOf(read), ram)).toBe(0));
});

it('a core that cannot be read: it goes on, and nothing is left', () => {
  writeFileSync(join(host, 'damaged'), '');
  const { status, stderr } = previrt(['guest', '--xl', '--end', '-o', 'state']);
  expect(stderr).toMatch(/^previrt: truncated: .*\n$/);
  expect(status).toBe(1);
  expect(told().at(-1)).toBe('sysrq guest G');
  expect(readdirSync(folder.file('out'))).toEqual([]);
});

it('no place for the file: it goes on', () => {
  mkdirSync(folder.file('out/state'));
  const { status, stderr } = previrt(['guest', '--xl', '--end', '-o', 'state']);
  expect(stderr).toMatch(/^previrt: cannot write .*state: is a directory; .*\n$/);
  expect(status).toBe(1);
  expect(told().at(-1)).toBe('sysrq guest G');
});

it.each(['INT', 'TERM', 'HUP'])(
  'SIG%s ends it: not before the guest goes on, and nothing is left',
  (signal) => {
    for (const order of ['sysrq S', 'dump-core', 'sysrq Q']) {
      writeFileSync(join(host, 'ends'), `${signal} ${order}\n`);
      expect(previrt(['guest', '--xl', '--end', '-o', 'state'])).toMatchObject({
        status: 1,
        stderr: `previrt: xl ${order.split(' ')[0]}: ended by SIG${signal}\n`,
      });
      expect(told().at(-1)).toBe('sysrq guest G');
      rmSync(join(host, 'told'));
      expect(readdirSync(folder.file('out')).filter((name) => name !== 'state')).toEqual([]);
    }
  },
);

it.each(['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP'] as const)(
  '%s while a state is written: it is written whole',
  async (signal) => {
    const large = new Uint8Array(LARGE);
    for (let at = 0; at < LARGE; at += 4096) large.set([1, at >> 12, at >> 20], at);
    writeFileSync(
      join(host, 'large'),
      coreOf(domainOf({ ...machineOf(large), ram: memoryRam(large) }, scrambled(1))),
    );
    const interrupted = async (): Promise<boolean> => {
      rmSync(folder.file('out/state'), { force: true });
      const child = spawn(PREVIRT, ['snapshot', join(host, 'large'), '-o', 'state'], {
        cwd: folder.file('out'),
      });
      const ended = once(child, 'exit');
      while (readdirSync(folder.file('out')).length === 0) await setTimeout(1);
      child.kill(signal);
      const end = await ended;
      expect(readdirSync(folder.file('out'))).toEqual(['state']);
      folder.read('out/state', (read) => expect(Buffer.compare(allOf(read), large)).toBe(0));
      if (end[0] === 0) return false; // It was done before the signal came.
      expect(end).toEqual([null, signal]);
      return true;
    };
    while (!(await interrupted()));
  },
);

it('only a file is replaced', () => {
  const core = join(host, 'still');
  spawnSync('mkfifo', [folder.file('out/pipe')]);
  expect(previrt([core, '-o', 'pipe'])).toEqual({
    status: 1,
    stdout: '',
    stderr: `previrt: cannot write ${folder.file('out/pipe')}: there is something that is no file; give another name\n`,
  });
  expect(statSync(folder.file('out/pipe')).isFIFO()).toBe(true);
});

it('what cannot be', () => {
  expect(previrt(['nobody', '--xl', '-o', 'state']).stderr).toBe(
    'previrt: xl sysrq: nobody is an invalid domain identifier\n',
  );
  expect(previrt(['guest', '--xl', '-o', 'nowhere/state']).stderr).toMatch(/^previrt: cannot write .*\n$/);
  const without = (process.env.PATH ?? '')
    .split(delimiter)
    .filter((part) => !existsSync(join(part, 'xl')))
    .join(delimiter);
  expect(previrt(['guest', '--xl', '-o', 'state'], without).stderr).toContain('there is no xl here');
  expect(readdirSync(folder.file('out'))).toEqual([]);
});

it('a core by itself, and what is none', () => {
  const core = join(host, 'still');
  expect(previrt([core, '-o', 'state'])).toMatchObject({ status: 0, stderr: '' });
  folder.read('out/state', (read) => expect(Buffer.compare(allOf(read), ram)).toBe(0));
  expect(previrt([join(host, 'running'), '-o', 'another']).stderr).toBe(
    `previrt: ${join(host, 'running')}: the guest in it does not stand still; tell it to: xl sysrq DOMAIN S; then dump its core again\n`,
  );
  expect(previrt([core, '--end', '-o', 'another']).stderr).toContain('leave --end out');
  expect(previrt([join(host, 'xl'), '-o', 'another']).stderr).toContain('not the core of a domain');
  expect(readdirSync(folder.file('out'))).toEqual(['state']);
});
