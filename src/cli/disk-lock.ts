/**
 * A disk's image is one guest's: two that write to it would ruin what is on it.
 * Whoever holds a guest locks its image (flock(2)), whatever target it is on. A
 * guest that goes elsewhere takes its image along: this end lets go of it before
 * the other can run.
 *
 * QEMU's locks (fcntl(2)) are others, and do not see these.
 */

import { spawnSync } from 'node:child_process';
import { closeSync, openSync, statfsSync } from 'node:fs';
import { InputError } from '../elf/input-error.ts';
import type { DiskLock } from '../migration/elsewhere.ts';
import { systemError } from './errors.ts';

/** What flock(1) is to say of an image that somebody holds. */
const IS_HELD = 200;

/** Of statfs(2): over the network flock(2) locks bytes as QEMU does, which then would find its own image locked. */
const NETWORK_FILE_SYSTEMS: ReadonlySet<number> = new Set([0x6969, 0x517b, 0xff534d42, 0xfe534d42]);

/** Locks an open file, until its description is closed: here, since flock(1) has gone by then. */
function lock(path: string, file: number): void {
  if (NETWORK_FILE_SYSTEMS.has(statfsSync(path).type)) return;
  const options = ['--exclusive', '--nonblock', '--conflict-exit-code', String(IS_HELD), '3'];
  const { status, error } = spawnSync('flock', options, { stdio: ['ignore', 'ignore', 'ignore', file] });
  if (error) throw new InputError(`cannot lock disk ${path}: ${error.message}`, 'install util-linux');
  if (status === IS_HELD)
    throw new InputError(`disk ${path} is in use by another guest`, 'end that one, or give a copy');
}

/** @param path of the image; undefined: there is none to lock */
export function diskLock(path: string | undefined): DiskLock {
  let held: number | undefined;
  return {
    take() {
      if (path === undefined || held !== undefined) return;
      let file: number;
      try {
        file = openSync(path, 'r+');
      } catch (error) {
        throw systemError(error, 'open disk', path);
      }
      try {
        lock(path, file);
        held = file;
      } finally {
        if (held === undefined) closeSync(file);
      }
    },
    release() {
      if (held !== undefined) closeSync(held);
      held = undefined;
    },
  };
}
