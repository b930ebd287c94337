/** A guest that does what its command line says (guest/main.c), and how to run it. */

import { join } from 'node:path';
import { cachedFolder, hashOf, REPOSITORY } from '../../guests/cache.ts';
import { runProgram } from '../../guests/steps.ts';

const SOURCE = 'test/xen/guest';
const VIRT_BASE = '0xc0000000';
const FLAGS = [
  ...['-m32', '-march=i686', '-mgeneral-regs-only', '-O2', '-Wall', '-Werror', '-ffreestanding'],
  ...['-fno-pic', '-no-pie', '-fno-stack-protector', '-fcf-protection=none', '-nostdlib', '-static'],
  ...[`-DVIRT_BASE=${VIRT_BASE}`, `-Wl,--defsym,VIRT_BASE=${VIRT_BASE}`, '-Wl,--build-id=none'],
  '-Wl,--no-warn-rwx-segments',
];

/** Path of the kernel. */
export async function buildWords(): Promise<string> {
  const built = await cachedFolder(`xen/words-${hashOf(FLAGS, [SOURCE])}`, async (work) => {
    const source = join(REPOSITORY, SOURCE);
    const files = ['head.S', 'main.c'].map((name) => join(source, name));
    const script = `-Wl,-T,${join(source, 'guest.lds')}`;
    await runProgram('gcc', [...FLAGS, script, '-o', join(work, 'words'), ...files]);
  });
  return join(built, 'words');
}
