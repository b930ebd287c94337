/**
 * A run on another machine, behind a command that carries bytes there: a shell
 * on this one, ssh. The other end is `previrt resume -`, which takes the guest
 * from its standard input (wire.ts) and then goes on with it as the console.
 *
 * Who may do that is for the command to know: nothing listens.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, createReadStream, fstatSync, openSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { InputError } from '../elf/input-error.ts';
import type { Features } from '../machine/features.ts';
import { emptyRam } from '../machine/ram.ts';
import type { Machine } from '../machine/state.ts';
import type { WithoutRam } from '../machine/state-blob.ts';
import { writeStateFile } from '../machine/state-writer.ts';
import { connect, pour, type Wire } from '../targets/bare/console.ts';
import { type Incoming, RUN_STATUS, type RunningGuest, type RunStatus } from '../targets/target.ts';
import { writeOut } from '../targets/write-out.ts';
import type { Destination, Surroundings } from './session.ts';
import { heardFrame, memoryFrame, pagesFrame, stateHead } from './wire.ts';

const MESSAGE = 'previrt: ';

/** What the other end says when the guest can come; behind it, numbers that `awaitsThere` writes. */
const AWAITS_THERE = 'previrt: awaits a guest, limit and features';

/** What the other end promises. */
interface Promised {
  /**
   * Milliseconds from when all of the guest is there until the other end must have
   * learned that it has been heard to run: without that it ends. So whoever has sent
   * the guest and hears nothing can let it go on when they are over.
   */
  readonly limit: number;
  /** What its processor can do. */
  readonly features: Features;
}

export const awaitsThere = ({ limit, features }: Promised): string =>
  `${AWAITS_THERE} ${[limit, ...features].join(' ')}`;

/** Nothing for another line. */
function promisedBy(line: string): Promised | undefined {
  if (!line.startsWith(AWAITS_THERE)) return undefined;
  const [limit = 0, ...features] = line.slice(AWAITS_THERE.length).trim().split(' ').map(Number);
  return { limit: Math.min(Math.max(limit || 0, 0), LONGEST_LIMIT), features };
}

/** What the other end says once the guest runs there. */
export const RUNS_THERE = 'previrt: runs here';

/** What it says if the guest does not run there and will not. */
export const GONE_THERE = 'previrt: does not run here';

/** Milliseconds: no other end may ask for more. */
const LONGEST_LIMIT = 600_000;
/** Milliseconds that the last bytes may be on their way. */
const ON_THE_WAY = 2_000;

const nothingHere = (): never => {
  throw new InputError('the guest runs elsewhere by now', 'ask the run that it is in');
};

/** Of a guest elsewhere nothing can be asked here. */
const ELSEWHERE: RunningGuest = {
  reburn: nothingHere,
  stop: nothingHere,
  goOn: nothingHere,
  letGo: nothingHere,
  features: nothingHere,
};

/** The state in a file without a name, compressed: the way there is narrow. Its descriptor. */
async function stateFile(machine: Machine): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'previrt-'));
  try {
    const file = openSync(join(folder, 'state'), 'wx+', 0o600);
    try {
      writeStateFile(file, machine, { compress: true });
      return file;
    } catch (error) {
      closeSync(file);
      throw error;
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The way to the other end. */
interface There {
  readonly input: Writable;
  /** When the guest can come. */
  readonly promised: Promise<Promised>;
  /** When it has ended. @throws InputError with its last words */
  readonly ended: Promise<never>;
}

/** Waits only if much is on its way. @throws InputError if the other end has ended */
async function send({ input, ended }: There, bytes: Uint8Array): Promise<void> {
  if (input.destroyed) await ended;
  if (!input.write(bytes)) await Promise.race([once(input, 'drain').catch(() => ended), ended]);
}

async function sendState(to: There, machine: Machine): Promise<void> {
  const file = await stateFile(machine);
  try {
    await send(to, stateHead(fstatSync(file).size));
    const state = createReadStream('', { fd: file, start: 0, autoClose: false });
    await pipeline(state, to.input, { end: false }).catch(() => to.ended);
  } finally {
    closeSync(file);
  }
}

/** A place at the other end of the wire. */
async function sendAhead(
  to: There,
  ramSize: number,
  ready: (incoming: Incoming) => void,
  takeUp: Incoming['takeUp'],
): Promise<void> {
  await send(to, memoryFrame(ramSize));
  const { features } = await Promise.race([to.promised, to.ended]);
  ready({
    features,
    write: async (start, bytes) => send(to, await pagesFrame(start, bytes)),
    takeUp,
  });
}

/** Ends the processes of a group, if there are any left. */
function endGroup(pid: number | undefined): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGTERM');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** What makes a disk's image this guest's alone. */
export interface DiskLock {
  /** @throws InputError if somebody else holds it, or there is no image */
  take(): void;
  release(): void;
}

async function run(
  command: string,
  ramSize: number,
  image: DiskLock,
  ready: (incoming: Incoming) => void,
  lives: () => void,
  { console, attach, signal }: Surroundings,
): Promise<RunStatus> {
  const child = spawn('/bin/sh', ['-c', command], { stdio: 'pipe', detached: true });
  const end = (): void => endGroup(child.pid);
  let escaped = false;
  let wire: Wire | undefined;
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  let runs = false;
  /** Whether it may come to run there, since its state is on the way; and since when all of that is. */
  let mayRun = false;
  let sentAt: number | undefined;
  let limit = 0;
  let awaits: (promised: Promised) => void;
  const promised = new Promise<Promised>((resolve) => {
    awaits = resolve;
  });
  let words = 'the connection was closed';
  let text = '';
  const hear = (chunk: string): void => {
    // It may have to build a hypervisor first, and says how far that is.
    lives();
    text += chunk;
    const lines = text.split('\n');
    text = lines.pop()!;
    for (const line of lines) {
      const awaited = promisedBy(line);
      if (awaited) {
        limit = awaited.limit;
        awaits(awaited);
      } else if (line === RUNS_THERE) {
        runs = true;
        child.stdin.write(heardFrame());
        // The other end is at no terminal: the escape is heard here.
        wire = connect(
          console,
          (bytes) => pour(child.stdin, bytes),
          () => {
            escaped = true;
            end();
          },
        );
        attach(ELSEWHERE);
      } else if (line === GONE_THERE) {
        mayRun = false;
      } else {
        // What carries it may have last words too.
        if (line.startsWith(MESSAGE) || !words.startsWith(MESSAGE)) words = line;
        writeOut(console.messages, `${line}\n`);
      }
    }
  };
  child.stderr
    .setEncoding('utf8')
    .on('data', hear)
    .on('end', () => void (text && hear('\n')));
  child.stdout.on('data', (bytes: Buffer) => writeOut(console.output, bytes));
  child.stdin.on('error', () => {}); // It has ended; that is seen below.
  try {
    const closed = once(child, 'close') as Promise<[number | null]>;
    const ended = closed.then(() => {
      throw new InputError(words);
    });
    ended.catch(() => {}); // Seen below.
    const there = { input: child.stdin, promised, ended };
    const takeUp = async (machine: WithoutRam): Promise<void> => {
      mayRun = true;
      image.release();
      await sendState(there, { ...machine, ram: emptyRam(ramSize) }).finally(() => {
        sentAt = performance.now();
      });
    };
    await sendAhead(there, ramSize, ready, takeUp).catch(() => {}); // The same.
    const [status] = await closed;
    if (escaped) return RUN_STATUS.done;
    if (runs && signal.aborted) return RUN_STATUS.host;
    if (runs) return (status ?? RUN_STATUS.crash) as RunStatus;
    const now = performance.now();
    if (mayRun) await sleep((sentAt ?? now) + limit + ON_THE_WAY - now);
    image.take();
    throw new InputError(words);
  } finally {
    wire?.close();
    signal.removeEventListener('abort', end);
  }
}

/**
 * @param command for the shell; `previrt resume -` is at its other end
 * @param ramSize bytes of the guest's RAM
 * @param image is not held here while the guest may come to run there
 */
export const elsewhere = (command: string, ramSize: number, image: DiskLock): Destination => ({
  receive: (ready, lives) => (surroundings) => run(command, ramSize, image, ready, lives, surroundings),
});
