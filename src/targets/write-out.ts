/** Console and messages go to files that someone reads, or has stopped to. */

import { writeSync } from 'node:fs';

/**
 * Writes all of it, waiting where the other side has made a pipe non-blocking.
 * When nobody reads any more, or there is no room, nothing: a machine goes on
 * without its screen.
 */
export function writeOut(fd: number, what: Uint8Array | string): void {
  const bytes = typeof what === 'string' ? Buffer.from(what) : what;
  for (let done = 0; done < bytes.length; )
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN') return;
    }
}

/** Says what is done, to whoever waits at a terminal, before something that takes some seconds and can tell nothing meanwhile. */
export function sayBefore(what: string): void {
  if (process.stderr.isTTY) writeOut(2, `${what} ...\n`);
}
