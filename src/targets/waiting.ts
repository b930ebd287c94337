/** Waiting, but not for ever. */

import { type EventEmitter, once } from 'node:events';
import { InputError } from '../elf/input-error.ts';

/**
 * Keeps no process alive by itself.
 * @throws InputError with `late` after `limit` milliseconds, and what `promise` rejects with before
 */
export async function within<T>(limit: number, promise: Promise<T>, late: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new InputError(late)), limit).unref();
  });
  try {
    return await Promise.race([promise, over]);
  } finally {
    clearTimeout(timer);
  }
}

/** Until the first of some events. @throws the emitter's error */
export async function firstOf(emitter: EventEmitter, ...events: readonly string[]): Promise<void> {
  const enough = new AbortController();
  try {
    await Promise.race(events.map((event) => once(emitter, event, enough)));
  } finally {
    enough.abort();
  }
}
