/** Waiting, but not for ever. */

import { type EventEmitter, once } from 'node:events';
import { InputError } from '../elf/input-error.ts';

/**
 * Keeps no process alive by itself.
 * @param act gets what begins the limit anew, for signs of life
 * @throws InputError with `late` after `limit` milliseconds, and what `act` rejects with before
 */
export async function patiently<T>(
  limit: number,
  act: (renew: () => void) => Promise<T>,
  late: string,
): Promise<T> {
  let expire: () => void;
  const over = new Promise<never>((_, reject) => {
    expire = () => reject(new InputError(late));
  });
  const timer = setTimeout(() => expire(), limit).unref();
  try {
    return await Promise.race([act(() => timer.refresh()), over]);
  } finally {
    clearTimeout(timer);
  }
}

/** The same with a limit that stays. */
export const within = <T>(limit: number, promise: Promise<T>, late: string): Promise<T> =>
  patiently(limit, () => promise, late);

/** Until the first of some events. @throws the emitter's error */
export async function firstOf(emitter: EventEmitter, ...events: readonly string[]): Promise<void> {
  const enough = new AbortController();
  try {
    await Promise.race(events.map((event) => once(emitter, event, enough)));
  } finally {
    enough.abort();
  }
}
