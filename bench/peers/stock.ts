/** Debian's own kernel, never annotated, as a process of this host: all that is sensitive traps. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from '../../guests/cache.ts';
import { stockKernel } from '../../guests/linux/stock.ts';
import { runProgram } from '../../guests/steps.ts';
import type { Peer } from './peer.ts';
import { previrtRun } from './previrt.ts';

export const stockHosted: Peer = {
  name: "hosted, Debian's kernel",
  width: 32,
  async command(script, folder) {
    const { vmlinuz } = await stockKernel('686');
    const image = join(folder, 'stock.hosted');
    if (!existsSync(image))
      await runProgram(join(REPOSITORY, 'bin/previrt'), [
        ...['burn', '--from-binary', vmlinuz, '--target', 'hosted', '--output', image],
      ]);
    return previrtRun(image, 'hosted', script);
  },
};

/** The same on the PC that QEMU emulates, as Debian made it. */
export const stockQemu: Peer = {
  name: "QEMU TCG, Debian's kernel",
  width: 32,
  async command(script) {
    return previrtRun((await stockKernel('686')).vmlinuz, 'bare', script);
  },
};
