/** This host itself. */

import { buildPrograms, type Width } from '../archive.ts';
import type { Peer } from './peer.ts';

/** A tmpfs: what a guest's /tmp is. */
const SCRATCH = '/dev/shm';

const native = (width: Width): Peer => ({
  name: `native ${width}`,
  width,
  async command(script) {
    const path = `${await buildPrograms(width)}:${process.env.PATH ?? ''}`;
    return { program: 'sh', args: ['-c', script], env: { PATH: path, SCRATCH } };
  },
});

export const native32 = native(32);
export const native64 = native(64);
