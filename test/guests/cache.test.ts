import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { cachedFolder, hashOf } from '../../guests/cache.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'previrt-cache-'));
  vi.stubEnv('PREVIRT_CACHE', root);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true });
});

describe('cachedFolder', () => {
  it('makes a thing once, even when two want it at the same time', async () => {
    let made = 0;
    const make = async (folder: string): Promise<void> => {
      made++;
      await sleep(50);
      writeFileSync(join(folder, 'thing'), 'made');
    };
    const [one, two] = await Promise.all([cachedFolder('a/b', make), cachedFolder('a/b', make)]);
    expect(one).toBe(two);
    expect(await cachedFolder('a/b', make)).toBe(one);
    expect(made).toBe(1);
    expect(readFileSync(join(one, 'thing'), 'utf8')).toBe('made');
    expect(readdirSync(join(root, 'a'))).toEqual(['b']);
  });

  it('leaves nothing behind of what failed, and tries again', async () => {
    const fail = cachedFolder('x', async (folder) => {
      writeFileSync(join(folder, 'half'), '');
      throw new Error('no space');
    });
    await expect(fail).rejects.toThrow('no space');
    expect(readdirSync(root)).toEqual([]);
    expect(existsSync(await cachedFolder('x', async () => {}))).toBe(true);
  });

  const NOBODY = String(2 ** 22 + 1); // above the kernel's largest process number
  // An empty lock is what a full disk leaves.
  it.each([NOBODY, ''])('takes over from a process that was killed: lock "%s"', async (holder) => {
    writeFileSync(join(root, 'x.lock'), holder);
    await mkdir(join(root, 'x.making/old'), { recursive: true });
    const folder = await cachedFolder('x', async () => {});
    expect(readdirSync(folder)).toEqual([]);
    expect(readdirSync(root)).toEqual(['x']);
  });

  it('says whom it waits for', async () => {
    const path = join(root, 'x.lock');
    writeFileSync(path, String(process.ppid));
    const said = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const folder = cachedFolder('x', async () => {});
    try {
      await vi.waitFor(
        () =>
          expect(said).toHaveBeenCalledWith(`waiting for process ${process.ppid}, which has ${path} ...\n`),
        10_000,
      );
    } finally {
      rmSync(path);
      await folder;
    }
    expect(said).toHaveBeenCalledTimes(1);
    said.mockRestore();
    expect(readdirSync(root)).toEqual(['x']);
  });
});

describe('hashOf', () => {
  it('depends on texts, their boundaries, and files', () => {
    const hashes = [
      hashOf(['ab', 'c']),
      hashOf(['a', 'bc']),
      hashOf(['ab', 'c'], ['guests/linux/i386.config']),
      hashOf(['ab', 'c'], ['guests/linux']),
    ];
    expect(new Set(hashes).size).toBe(4);
    expect(hashOf(['ab', 'c'])).toBe(hashes[0]);
  });
});
