/**
 * Things that take long to make are made once: each lies in the cache under
 * the hash of all it is made from, and appears there whole or not at all.
 */

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cacheRoot } from '../src/targets/hosted/build.ts';

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

/**
 * The folder `name` of the cache; `make` fills it if it is not there. Two
 * processes that make the same do it twice, and the first one's stays.
 *
 * @throws what `make` throws; nothing stays behind
 */
export async function cachedFolder(name: string, make: (folder: string) => Promise<void>): Promise<string> {
  const folder = join(cacheRoot(), name);
  if (existsSync(folder)) return folder;
  await mkdir(join(folder, '..'), { recursive: true });
  const work = await mkdtemp(`${folder}.`);
  try {
    await make(work);
    await rename(work, folder).catch((error: unknown) => {
      if (!existsSync(folder)) throw error;
    });
    return folder;
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
