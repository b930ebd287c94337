/**
 * A guest that comes through standard input (src/migration/wire.ts), which then
 * is its console. Without whoever sent it, it must not run: that one may go on then.
 */

import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { InputError } from '../elf/input-error.ts';
import type { Features } from '../machine/features.ts';
import { BLOCK_SIZE, fileRam, writeFully } from '../machine/ram.ts';
import { type Machine, usesDisk } from '../machine/state.ts';
import type { WithoutRam } from '../machine/state-blob.ts';
import { readStateFile } from '../machine/state-reader.ts';
import { bringTo } from '../migration/bring.ts';
import { awaitsThere, GONE_THERE, RUNS_THERE } from '../migration/elsewhere.ts';
import { FRAMES, type Frame, FrameReader } from '../migration/wire.ts';
import type { Incoming, ResumeOptions, RunStatus, Target } from '../targets/target.ts';
import { within } from '../targets/waiting.ts';
import { diskLock } from './disk-lock.ts';
import { type Alone, hold } from './hold.ts';

/** @throws InputError if the guest uses a disk, and none is given */
export function checkDisk({ state }: WithoutRam, disk: string | undefined): void {
  if (usesDisk(state) && disk === undefined)
    throw new InputError('the guest uses a disk', 'give its image with --disk');
}

/** A file without a name, to read and to write. Its descriptor. */
async function namelessFile(): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'previrt-'));
  try {
    return openSync(join(folder, 'state'), 'wx+', 0o600);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** The state that follows a head, in a file. */
async function takeState(wire: FrameReader, { length }: Frame): Promise<number> {
  const file = await namelessFile();
  for (let done = 0; done < length; done += BLOCK_SIZE)
    writeFully(file, await wire.take(Math.min(BLOCK_SIZE, Number(length) - done)), done);
  return file;
}

/** All that comes before the state, and that without RAM. @throws InputError if it is damaged, or no guest */
async function follow(wire: FrameReader, ramSize: number, to: Pick<Incoming, 'write'>): Promise<WithoutRam> {
  for (;;) {
    const frame = await wire.head();
    if (frame.kind === FRAMES.pages) await wire.pages(frame, ramSize, to);
    else if (frame.kind === FRAMES.state) {
      const file = await takeState(wire, frame);
      try {
        const { state, sites } = readStateFile(file);
        if (Number(state.ram_size) !== ramSize)
          throw new InputError(`a state with ${state.ram_size} bytes of RAM, ${ramSize} were announced`);
        return { state, sites };
      } finally {
        closeSync(file);
      }
    } else throw new InputError('this is no guest: RAM is announced twice');
  }
}

type Options = Pick<ResumeOptions, 'disk' | 'elf' | 'domain'>;

/** The guest of whom all is here before it goes on: its RAM in a file. */
async function whole(wire: FrameReader, file: number, size: number): Promise<Machine> {
  ftruncateSync(file, size);
  const machine = await follow(wire, size, { write: (start, bytes) => writeFully(file, bytes, start) });
  return { ...machine, ram: fileRam(file, size) };
}

/** Until whoever has sent the guest has heard that it runs. @throws InputError if that does not come */
async function heard(wire: FrameReader): Promise<void> {
  const frame = await wire.head().catch(() => undefined);
  if (frame?.kind !== FRAMES.heard) throw new InputError(UNHEARD);
}

/** Milliseconds from when all of a guest is here until it has been heard to run: where it is awaited, and where a machine starts with it. */
const AWAITS = 20_000;
const STARTS = 120_000;

const UNHEARD = 'whoever sent the guest has not heard that it runs here: it may go on there';

/**
 * Runs it to its end.
 * @throws InputError if it does not come, cannot go on here, or has not been heard to
 */
export async function arrive(
  target: Target,
  options: Options,
  control: string | undefined,
): Promise<RunStatus> {
  const { stdin } = process;
  const wire = new FrameReader(stdin);
  const typed = new PassThrough();
  const image = diskLock(options.disk);
  const unheard = new AbortController();
  let runs: () => void = () => {};
  const running = new Promise<void>((resolve) => {
    runs = resolve;
  });
  let isHeard = false;
  /** All of it is there: it comes to run, and that is heard; or it ends. */
  const settle = async (limit: number): Promise<void> => {
    try {
      await within(
        limit,
        running.then(() => heard(wire)),
        UNHEARD,
      );
    } catch (error) {
      unheard.abort(error);
      return;
    }
    isHeard = true;
    typed.write(wire.rest());
    const end = (): void => void process.kill(process.pid, 'SIGTERM');
    if (stdin.readableEnded) end();
    stdin.once('end', end).once('error', end).pipe(typed);
  };
  const surrounded = (surroundings: Alone): Alone => ({
    ...surroundings,
    signal: AbortSignal.any([surroundings.signal, unheard.signal]),
    attach: (guest) => {
      process.stderr.write(`${RUNS_THERE}\n`);
      runs();
      surroundings.attach?.(guest);
    },
  });
  const comes = (limit: number, features: Features): void =>
    void process.stderr.write(`${awaitsThere({ limit, features })}\n`);
  try {
    const first = await wire.head();
    if (first.kind !== FRAMES.memory) throw new InputError('this is no guest: its RAM was not announced');
    const ramSize = Number(first.start);
    const run = target.receive ? received : resumed;
    const status = await hold(
      control,
      { ...options, ramSize },
      (surroundings) => run(ramSize, surrounded(surroundings)),
      { typed, image },
    );
    if (unheard.signal.aborted) throw unheard.signal.reason;
    return status;
  } finally {
    if (!isHeard) process.stderr.write(`${GONE_THERE}\n`);
    stdin.unpipe(typed).pause();
    if (stdin instanceof Socket) stdin.unref();
  }

  async function resumed(ramSize: number, surroundings: Alone): Promise<RunStatus> {
    comes(STARTS, target.features ?? []);
    const file = await namelessFile();
    try {
      const machine = await whole(wire, file, ramSize);
      checkDisk(machine, options.disk);
      image.take();
      void settle(STARTS);
      // It is large, and of no use once the guest runs.
      void running.then(() => ftruncateSync(file));
      return await target.resume!({ ...options, ...surroundings, machine });
    } finally {
      closeSync(file);
    }
  }

  /** Takes it as it comes. */
  function received(ramSize: number, surroundings: Alone): Promise<RunStatus> {
    return bringTo(target.receive!, { ...options, ...surroundings, ramSize }, async (incoming) => {
      comes(AWAITS, incoming.features);
      const machine = await follow(wire, ramSize, incoming);
      checkDisk(machine, options.disk);
      image.take();
      await incoming.takeUp(machine);
      await settle(AWAITS);
    });
  }
}
