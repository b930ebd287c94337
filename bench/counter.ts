/** The plugin of QEMU that counts instructions. */

import { join } from 'node:path';
import { cachedFolder, hashOf, REPOSITORY } from '../guests/cache.ts';
import { runProgram } from '../guests/steps.ts';

const SOURCE = 'bench/counter.c';

/** Path of the plugin; its argument out=FILE says where the count goes. */
export async function buildCounter(): Promise<string> {
  const built = await cachedFolder(`bench/counter-${hashOf([], [SOURCE])}`, async (work) => {
    const flags = ['-shared', '-fPIC', '-fvisibility=hidden', '-O2', '-Wall', '-Wextra', '-Werror'];
    await runProgram('gcc', [...flags, '-o', join(work, 'counter.so'), join(REPOSITORY, SOURCE)]);
  });
  return join(built, 'counter.so');
}
