/**
 * Things that take long to make are made once: each lies in the cache under
 * the hash of all it is made from, and appears there whole or not at all.
 */

import { createHash, randomUUID } from 'node:crypto';
import { existsSync, linkSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { cacheRoot } from '../src/targets/wedge-build.ts';

export const REPOSITORY = fileURLToPath(new URL('..', import.meta.url));

/** Every file below `path`, or `path` itself, in a fixed order. */
function filesBelow(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .sort()
    .flatMap((name) => filesBelow(join(path, name)));
}

/** A hash of texts, and of files and folders of the repository by their contents. */
export function hashOf(texts: readonly string[], paths: readonly string[] = []): string {
  const hash = createHash('sha256');
  for (const text of texts) hash.update(`${text}\0`);
  for (const file of paths.flatMap((path) => filesBelow(join(REPOSITORY, path))))
    hash.update(`${relative(REPOSITORY, file)}\0`).update(readFileSync(file));
  return hash.digest('hex').slice(0, 16);
}

/** Milliseconds between two looks at whether another process is done. */
const POLL = 500;

const isAlive = (pid: number): boolean => {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
};

/** Looks after which it is said who is waited for. */
const QUIET = 4;

/** Takes the lock, waiting for another living process that has it; its holder's number is its contents. */
async function lock(path: string): Promise<void> {
  // It appears with its contents: half of a lock would be nobody's, and for ever.
  const own = `${path}.${randomUUID()}`;
  try {
    writeFileSync(own, String(process.pid));
    for (let looks = 1; ; looks++) {
      try {
        return linkSync(own, path);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      }
      const text = await readFile(path, 'utf8').catch(() => undefined);
      if (text === undefined) continue;
      const holder = Number(text);
      if (!(holder > 0 && isAlive(holder))) await rm(path, { force: true });
      else if (looks === QUIET)
        process.stderr.write(`waiting for process ${holder}, which has ${path} ...\n`);
      await sleep(POLL);
    }
  } finally {
    rmSync(own, { force: true });
  }
}

/**
 * The folder `name` of the cache; `make` fills it if it is not there. Of
 * several processes that want it one makes it and the others wait.
 *
 * @throws what `make` throws; nothing stays behind
 */
export async function cachedFolder(name: string, make: (folder: string) => Promise<void>): Promise<string> {
  const folder = join(cacheRoot(), name);
  if (existsSync(folder)) return folder;
  await mkdir(dirname(folder), { recursive: true });
  const work = `${folder}.making`;
  await lock(`${folder}.lock`);
  try {
    if (existsSync(folder)) return folder;
    // One that was killed may have left its work.
    await rm(work, { recursive: true, force: true });
    await mkdir(work);
    await make(work);
    await rename(work, folder);
    return folder;
  } finally {
    await rm(work, { recursive: true, force: true });
    await rm(`${folder}.lock`, { force: true });
  }
}
