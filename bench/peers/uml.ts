/** User-Mode Linux as Debian packages it: a 64-bit kernel that runs its processes by ptrace. */

import { existsSync } from 'node:fs';
import { InputError } from '../../src/elf/input-error.ts';
import { buildArchive } from '../archive.ts';
import { MEMORY, type Peer } from './peer.ts';

const KERNEL = '/usr/bin/linux.uml';

export const uml: Peer = {
  name: 'User-Mode Linux',
  width: 64,
  async command(script) {
    if (!existsSync(KERNEL))
      throw new InputError(`${KERNEL} is missing`, 'run sh guests/setup.sh, or install user-mode-linux');
    const initrd = await buildArchive(64, script);
    return {
      program: KERNEL,
      args: [`mem=${MEMORY}`, `initrd=${initrd}`, 'con=null', 'con0=fd:0,fd:1'],
    };
  },
};
