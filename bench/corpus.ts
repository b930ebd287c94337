/** The assembly text that the compiler makes of the kernel. */

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { cachedFolder, hashOf } from '../guests/cache.ts';
import { configureKernel, plainInputs } from '../guests/linux/kernel.ts';

function filesBelow(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return filesBelow(path);
    return entry.isFile() ? [path] : [];
  });
}

/** Some include files of the build; those cannot be assembled elsewhere. */
const assembles = (path: string): boolean =>
  spawnSync('as', ['--32', '-o', '/dev/null', path], { stdio: 'ignore', cwd: '/' }).status === 0;

/** A folder of `.s` files, one for each object of the plain kernel; kept from a build of it, which takes minutes. */
export async function kernelCorpus(): Promise<string> {
  const { texts, paths } = await plainInputs();
  return cachedFolder(`bench/corpus-${hashOf(texts, [...paths, 'bench/corpus.ts'])}`, async (work) => {
    const output = join(work, 'build');
    mkdirSync(output);
    const build = await configureKernel('plain', output, '-save-temps=obj');
    await build();
    // Without an object it is the kernel's way to compute constants, and no assembly.
    for (const path of filesBelow(output))
      if (path.endsWith('.s') && existsSync(path.replace(/s$/, 'o')) && assembles(path))
        copyFileSync(path, join(work, relative(output, path).replaceAll('/', '__')));
    rmSync(output, { recursive: true });
  });
}
