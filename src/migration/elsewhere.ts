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
import type { Readable, Writable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { InputError } from '../elf/input-error.ts';
import type { Features } from '../machine/features.ts';
import { emptyRam } from '../machine/ram.ts';
import type { Machine } from '../machine/state.ts';
import type { WithoutRam } from '../machine/state-blob.ts';
import { writeStateFile } from '../machine/state-writer.ts';
import { type Incoming, RUN_STATUS, type RunningGuest, type RunStatus } from '../targets/target.ts';
import { writeOut } from '../targets/write-out.ts';
import type { Destination, Surroundings } from './session.ts';
import { memoryFrame, pagesFrame, stateHead } from './wire.ts';

const MESSAGE = 'previrt: ';

/** What the other end says when the guest can come, before the words of what its processor can do (FEATURE_WORDS). */
export const AWAITS_THERE = 'previrt: awaits a guest, features';

/** What the other end says once the guest runs there. */
export const RUNS_THERE = 'previrt: runs here';

const there = (): never => {
  throw new InputError('the guest runs elsewhere by now', 'ask the run that it is in');
};

/** Of a guest elsewhere nothing can be asked here. */
const ELSEWHERE: RunningGuest = { reburn: there, stop: there, goOn: there, letGo: there, features: there };

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
  /** What its processor can do, when the guest can come. */
  readonly features: Promise<Features>;
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
  const state = createReadStream('', { fd: file, start: 0 }); // It closes the file, whatever happens.
  await send(to, stateHead(fstatSync(file).size));
  await pipeline(state, to.input, { end: false }).catch(() => to.ended);
}

/** A place at the other end of the wire. */
async function sendAhead(to: There, ramSize: number, ready: (incoming: Incoming) => void): Promise<void> {
  await send(to, memoryFrame(ramSize));
  const features = await Promise.race([to.features, to.ended]);
  ready({
    features,
    write: async (start, bytes) => send(to, await pagesFrame(start, bytes)),
    takeUp: (machine: WithoutRam) => sendState(to, { ...machine, ram: emptyRam(ramSize) }),
  });
}

/** @param begin sends the guest, or makes a place for it */
async function run(
  command: string,
  { console, attach, signal }: Surroundings,
  begin: (to: There) => Promise<void>,
): Promise<RunStatus> {
  const child = spawn('/bin/sh', ['-c', command], { stdio: 'pipe', detached: true });
  const end = (): void => {
    if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGTERM');
  };
  signal.addEventListener('abort', end, { once: true });
  if (signal.aborted) end();
  let runs = false;
  let awaits: (features: Features) => void;
  const features = new Promise<Features>((resolve) => {
    awaits = resolve;
  });
  let words = 'the connection was closed';
  let text = '';
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
    const lines = text.split('\n');
    text = lines.pop()!;
    for (const line of lines)
      if (line === RUNS_THERE) {
        runs = true;
        // Its end would be that of the guest there.
        (console.input as Readable).pipe(child.stdin, { end: false });
        attach(ELSEWHERE);
      } else if (line.startsWith(AWAITS_THERE)) {
        const words = line.slice(AWAITS_THERE.length).trim().split(' ');
        awaits(words.map(Number));
      } else {
        // What carries it may have last words too.
        if (line.startsWith(MESSAGE) || !words.startsWith(MESSAGE)) words = line;
        writeOut(console.messages, `${line}\n`);
      }
  });
  child.stdout.on('data', (bytes: Buffer) => writeOut(console.output, bytes));
  child.stdin.on('error', () => {}); // It has ended; that is seen below.
  try {
    const closed = once(child, 'close') as Promise<[number | null]>;
    const ended = closed.then(() => {
      throw new InputError(words);
    });
    ended.catch(() => {}); // Seen below.
    await begin({ input: child.stdin, features, ended }).catch(() => {}); // The same.
    const [status] = await closed;
    if (!runs) throw new InputError(words);
    return (status ?? RUN_STATUS.crash) as RunStatus;
  } finally {
    signal.removeEventListener('abort', end);
  }
}

/**
 * @param command for the shell; `previrt resume -` is at its other end
 * @param ramSize bytes of the guest's RAM
 */
export const elsewhere = (command: string, ramSize: number): Destination => ({
  receive: (ready) => (surroundings) => run(command, surroundings, (to) => sendAhead(to, ramSize, ready)),
});
