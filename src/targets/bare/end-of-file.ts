/** Files that QEMU has written, which may be larger than Node reads in one go. */

import { closeSync, fstatSync, openSync } from 'node:fs';
import { readFully } from '../../machine/ram.ts';

/** The last bytes of a file, so many at most; or all of it. */
export function endOfFile(path: string, most = Number.POSITIVE_INFINITY): Uint8Array {
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    const bytes = new Uint8Array(Math.min(size, most));
    readFully(file, bytes, size - bytes.length, path);
    return bytes;
  } finally {
    closeSync(file);
  }
}
