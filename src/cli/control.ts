/**
 * The control socket of a run: its owner may ask something of the guest.
 * A request is a line of JSON, an object with one member that names it; the
 * answer is one too, with what was done or an `error`. Lines before it that
 * have `progress` only say how far it is.
 */

import { lstatSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { isAbsolute } from 'node:path';
import { InputError } from '../elf/input-error.ts';
import { systemError } from './errors.ts';

/** Characters of the longest request. */
const LONGEST = 4096;

/** Bytes of a socket's path at most (unix(7)); Node cuts off what is longer. */
const LONGEST_PATH = 107;

/**
 * A path that Node takes for nothing else: a number alone would be a TCP port, of all the host's addresses.
 * @throws InputError if it is too long
 */
function socketPath(path: string): string {
  const whole = isAbsolute(path) ? path : `./${path}`;
  if (Buffer.byteLength(whole) > LONGEST_PATH)
    throw new InputError(`${path}: too long for a socket`, 'give a shorter path');
  return whole;
}

/** The other end of a connection. */
export interface Asker {
  /** Tells how far it is. */
  tell(progress: object): void;
  /** Aborted when it is gone. */
  readonly calledOff: AbortSignal;
}

/** Does what is asked. @throws InputError with the reason if it cannot be done */
export type Answerer = (request: unknown, asker: Asker) => Promise<object>;

async function answer(line: string, answerer: Answerer, asker: Asker): Promise<object> {
  try {
    return await answerer(JSON.parse(line), asker);
  } catch (error) {
    const advice = error instanceof InputError && error.advice ? `; ${error.advice}` : '';
    return { error: `${(error as Error).message}${advice}` };
  }
}

function serve(socket: Socket, answerer: Answerer): void {
  let text = '';
  socket.setEncoding('utf8').on('error', () => socket.destroy());
  const send = (what: object): void => void socket.write(`${JSON.stringify(what)}\n`);
  const gone = new AbortController();
  socket.on('close', () => gone.abort(new InputError('whoever asked for it is gone')));
  const asker: Asker = { tell: (progress) => send({ progress }), calledOff: gone.signal };
  socket.on('data', async (chunk: string) => {
    text += chunk;
    const lines = text.split('\n');
    text = lines.pop()!;
    if (text.length > LONGEST) socket.destroy();
    for (const line of lines) send(await answer(line, answerer, asker));
  });
}

/** Whether there is a socket that nobody listens at: whoever made it was killed. */
async function isLeft(path: string): Promise<boolean> {
  try {
    if (!lstatSync(path).isSocket()) return false;
  } catch {
    return false; // Whoever listens there will say why.
  }
  return new Promise((resolve) => {
    const socket = connect(socketPath(path));
    socket.on('connect', () => socket.destroy()).on('close', () => resolve(false));
    socket.on('error', ({ code }: NodeJS.ErrnoException) => resolve(code === 'ECONNREFUSED'));
  });
}

/** Listens on a path until what it returns is called. @throws InputError if it cannot */
export async function openControl(path: string, answerer: Answerer): Promise<() => void> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket.on('close', () => sockets.delete(socket)));
    serve(socket, answerer);
  });
  if (await isLeft(path)) rmSync(path, { force: true });
  await new Promise<void>((listening, failed) => {
    server.on('error', (error) =>
      failed(systemError(error, 'listen at', path, 'take another path for --control')),
    );
    // Whoever can write to it may have commands run: nobody but its owner. It is made before `listen` returns.
    const umask = process.umask(0o177);
    try {
      server.listen(socketPath(path), listening);
    } finally {
      process.umask(umask);
    }
  });
  return () => {
    server.close();
    // A client that stays would keep the process.
    for (const socket of sockets) socket.destroySoon();
    rmSync(path, { force: true });
  };
}

type Answer<T> = T & { readonly error?: string; readonly progress?: unknown };

/** Undefined if it is none. */
function parseAnswer<T>(line: string): Answer<T> | undefined {
  try {
    const answer: unknown = JSON.parse(line);
    return typeof answer === 'object' && answer !== null ? (answer as Answer<T>) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Sends a request and takes its answer.
 * @param hear is given what comes before it
 * @throws InputError with the error in it, or if nobody listens or answers
 */
export function request<T>(path: string, what: object, hear?: (progress: unknown) => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const socket = connect(socketPath(path));
    let text = '';
    socket.setEncoding('utf8');
    socket.on('connect', () => socket.write(`${JSON.stringify(what)}\n`));
    socket.on('error', (error) =>
      reject(systemError(error, 'reach a run at', path, 'give the path that it was given as --control')),
    );
    socket.on('close', () => reject(new InputError(`${path}: the run has ended`)));
    socket.on('data', (chunk: string) => {
      text += chunk;
      const lines = text.split('\n');
      text = lines.pop()!;
      for (const line of lines) {
        const answered = parseAnswer<T>(line);
        if (answered === undefined) {
          reject(new InputError(`${path}: whoever listens there is no run of previrt's`));
          socket.destroy();
          return;
        }
        if (answered.progress !== undefined) {
          hear?.(answered.progress);
          continue;
        }
        if (answered.error !== undefined) reject(new InputError(`${path}: ${answered.error}`));
        else resolve(answered);
        socket.end();
      }
    });
  });
}
