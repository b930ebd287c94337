/** The disk of the machines that have one. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Not a power of two, so that the bytes of the capacity differ. */
const SECTORS = 0x123;
const WORDS_PER_SECTOR = 128;

/** Runs something with a new disk, of which each word tells its sector and its place there. */
export async function withDisk<T>(act: (path: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'previrt-disk-'));
  try {
    const words = Uint32Array.from({ length: SECTORS * WORDS_PER_SECTOR }, (_, index) => {
      return (Math.floor(index / WORDS_PER_SECTOR) << 16) | (index % WORDS_PER_SECTOR);
    });
    const path = join(folder, 'disk');
    writeFileSync(path, words);
    return await act(path);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
