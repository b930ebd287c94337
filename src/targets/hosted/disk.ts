/** The image of a guest's disk, as its process gets it. */

import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { InputError } from '../../elf/input-error.ts';

/** Bytes. */
const SECTOR = 512;

export interface Disk {
  readonly fd: number;
  /** Bytes. */
  readonly size: number;
}

/** Bytes of a block device, which fstat(2) does not tell: by its number (makedev(3)) in sysfs, which counts sectors. */
function deviceSize(device: number): number {
  const major = (device >>> 8) & 0xfff;
  const minor = (device & 0xff) | ((device >>> 12) & 0xfff00);
  return Number(readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'latin1')) * SECTOR;
}

function sizeOf(fd: number): number {
  const stats = fstatSync(fd);
  return stats.isBlockDevice() ? deviceSize(stats.rdev) : stats.size;
}

/** @throws InputError if it is not there, or nothing that has a size: the guest would find no disk */
export function openDisk(path: string): Disk {
  let fd: number | undefined;
  let size: number;
  try {
    fd = openSync(path, 'r+');
    size = sizeOf(fd);
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    throw new InputError(`cannot open disk ${path}: ${(error as NodeJS.ErrnoException).code}`);
  }
  if (size >= SECTOR) return { fd, size };
  closeSync(fd);
  throw new InputError(`disk ${path} has no sector`, 'give it a file of at least 512 bytes');
}
