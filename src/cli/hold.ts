/** A guest on the console of this process, of which something may be asked meanwhile through its control socket. */

import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import type { DiskLock } from '../migration/elsewhere.ts';
import { Session, type Surroundings } from '../migration/session.ts';
import { ENDING_SIGNALS } from '../migration/signals.ts';
import type { RunStatus } from '../targets/target.ts';
import { openControl } from './control.ts';
import { diskLock } from './disk-lock.ts';
import { answerer, type Lasting } from './requests.ts';
import { takeTerminal } from './terminal.ts';

/** As a session's, for a guest of which nothing is asked: nothing can be asked. */
export type Alone = Omit<Surroundings, 'attach'> & Partial<Surroundings>;

/** Runs it as a session, which answers at `path`. */
async function inSession(
  path: string,
  lasting: Lasting,
  image: DiskLock,
  { console, signal }: Alone,
  input: Readable,
  start: (surroundings: Alone) => Promise<RunStatus>,
): Promise<RunStatus> {
  let session: Session | undefined;
  const closeControl = await openControl(path, (request, asker) =>
    answerer(session!, lasting, image)(request, asker),
  );
  let ended = false;
  const type = (bytes: Buffer): void => {
    const room = session!.type(bytes);
    // At a terminal the escape has to be seen.
    if (!room || console.terminal) return;
    input.pause();
    void room.then(() => ended || input.resume());
  };
  const close = (): void => void session!.type(undefined);
  try {
    session = new Session(start, console, signal);
    // A terminal that is gone has no more to say.
    input.on('data', type).on('end', close).on('error', close);
    return await session.ended();
  } finally {
    ended = true;
    input.off('data', type).off('end', close).pause();
    if (input instanceof Socket) input.unref();
    closeControl();
  }
}

/**
 * Runs a guest to its end, wherever that is. A signal ends it.
 * @param control where to make the control socket; undefined: nowhere
 * @param incoming of a guest that still has to come, and brings its disk along: what comes in on
 * the console, which is not all of standard input, and its image's lock, which it is still to take
 */
export async function hold(
  control: string | undefined,
  lasting: Lasting,
  start: (surroundings: Alone) => Promise<RunStatus>,
  incoming?: { readonly typed: Readable; readonly image: DiskLock },
): Promise<RunStatus> {
  const terminal = process.stdin.isTTY === true;
  const ended = new AbortController();
  const end = (): void => ended.abort();
  for (const signal of ENDING_SIGNALS) process.once(signal, end);
  const alone = {
    console: { input: incoming?.typed ?? 0, output: 1, messages: 2, terminal },
    signal: ended.signal,
  };
  const image = incoming?.image ?? diskLock(lasting.disk);
  if (!incoming) image.take();
  const giveBack = terminal ? takeTerminal() : () => {};
  try {
    if (control === undefined) return await start(alone);
    return await inSession(control, lasting, image, alone, incoming?.typed ?? process.stdin, start);
  } finally {
    giveBack();
    image.release();
  }
}
