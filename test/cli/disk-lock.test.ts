/** The lock of a disk's image. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { diskLock } from '../../src/cli/disk-lock.ts';

const folder = mkdtempSync(join(tmpdir(), 'previrt-lock-'));
const path = join(folder, 'disk');
const isFree = (): boolean => spawnSync('flock', ['--nonblock', path, 'true']).status === 0;
beforeAll(() => writeFileSync(path, new Uint8Array(512)));
afterAll(() => rmSync(folder, { recursive: true }));

it('is held by one at a time, by whatever name, until it is released', () => {
  const other = join(folder, 'link');
  symlinkSync(path, other);
  const [one, two] = [diskLock(path), diskLock(other)];
  one.take();
  one.take();
  expect(isFree()).toBe(false);
  expect(() => two.take()).toThrow(`disk ${other} is in use by another guest`);
  two.release();
  expect(isFree()).toBe(false);
  one.release();
  two.take();
  expect(() => one.take()).toThrow('in use');
  two.release();
  expect(isFree()).toBe(true);
});

it('is nothing where there is no disk, and an error where there is no image', () => {
  const none = diskLock(undefined);
  none.take();
  none.release();
  expect(() => diskLock(join(folder, 'none')).take()).toThrow('none: no such file or directory');
  expect(() => diskLock(folder).take()).toThrow(`cannot open disk ${folder}: is a directory`);
});
