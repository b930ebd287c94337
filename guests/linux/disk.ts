/** Images of ext2 disks. */

import { truncateSync, writeFileSync } from 'node:fs';
import { runProgram } from '../steps.ts';

/** Makes a disk of `size` bytes at `path`, with the contents of `folder`. */
export async function makeDisk(path: string, size: number, folder?: string): Promise<void> {
  writeFileSync(path, '');
  truncateSync(path, size);
  const content = folder === undefined ? [] : ['-d', folder];
  await runProgram('mke2fs', ['-q', '-F', '-t', 'ext2', '-E', 'root_owner=0:0', ...content, path]);
}

/** Checks a disk without changing it. @throws InputError with e2fsck's findings if it is not clean */
export async function checkDisk(path: string): Promise<void> {
  await runProgram('e2fsck', ['-f', '-n', path]);
}

/** A file of the disk, as text. */
export const readFromDisk = (path: string, file: string): Promise<string> =>
  runProgram('debugfs', ['-R', `cat ${file}`, path]);
