/** Reading and writing files for commands, with errors that say which file and why. */

import { randomUUID } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  openSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { writeFully } from '../machine/ram.ts';
import { ENDING_SIGNALS } from '../migration/signals.ts';
import { CliError, systemError } from './errors.ts';

/** @throws CliError if it cannot be read. */
export function readInput(path: string): Uint8Array {
  try {
    return readFileSync(path);
  } catch (error) {
    throw systemError(error, 'read', path);
  }
}

/** A descriptor to read from. @throws CliError if it cannot be opened. */
export function openInput(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw systemError(error, 'read', path);
  }
}

/** Runs `body` on an open file. @throws CliError if it cannot be opened or read, and what `body` throws */
export function withInput<T>(path: string, body: (file: number) => T): T {
  const file = openInput(path);
  try {
    return body(file);
  } catch (error) {
    throw systemError(error, 'read', path);
  } finally {
    closeSync(file);
  }
}

const statOrUndefined = (path: string) => statSync(path, { throwIfNoEntry: false });

/** Whether there is a file, no folder, pipe, device or socket. If nobody can tell, no: whoever opens it will say why. */
export function isFile(path: string): boolean {
  try {
    return statOrUndefined(path)?.isFile() ?? false;
  } catch {
    return false;
  }
}

/** Whether there is a pipe or a device, which is written through, not replaced. */
function isStream(path: string): boolean {
  const existing = statOrUndefined(path);
  return existing !== undefined && !existing.isFile() && !existing.isDirectory();
}

/**
 * Writes a file whole or not at all: to a temporary file beside it, which then
 * takes its name. Existing permissions stay; a new file gets `mode`.
 * @throws CliError if it cannot be written; nothing is left behind.
 */
export function writeOutput(path: string, bytes: Uint8Array, mode = 0o644): void {
  try {
    if (isStream(path)) {
      writeFileSync(path, bytes);
      return;
    }
  } catch (error) {
    throw systemError(error, 'write', path);
  }
  replaceFile(path, mode, (file) => writeFully(file, bytes, 0));
}

/** Where to say what was written to `path`: not on standard output if that leads to the same, and would have it as well. */
export function besides(path: string): NodeJS.WritableStream {
  const [written, output] = [statOrUndefined(path), fstatSync(process.stdout.fd)];
  const same = written?.dev === output.dev && written.ino === output.ino && !written.isCharacterDevice();
  return same ? process.stderr : process.stdout;
}

/** Waits until what has changed in a folder is on its disk. */
function syncFolder(path: string): void {
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/**
 * Until what it returns is called, no signal ends this process: that acts afterwards.
 * Signals that somebody handles are theirs.
 */
function holdSignals(): () => void {
  const held = ENDING_SIGNALS.filter((signal) => process.listenerCount(signal) === 0);
  const letGo = (): void => {
    for (const signal of held) process.off(signal, act);
  };
  const act = (signal: NodeJS.Signals): void => {
    letGo();
    process.kill(process.pid, signal);
  };
  for (const signal of held) process.on(signal, act);
  // Node tells of a signal where it waits for events, which is between two of these.
  return () => void setImmediate(() => setImmediate(letGo));
}

/** Where symbolic links from a path lead, though nothing may be there. */
function endOfLinks(path: string): string {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink()) return path;
  return endOfLinks(resolve(realpathSync(dirname(path)), readlinkSync(path)));
}

/** Where a file is to lie, and what does now. @throws CliError if that is no file */
function placeFor(path: string): { readonly target: string; readonly existing: Stats | undefined } {
  const existing = statOrUndefined(path);
  if (existing?.isDirectory()) throw new CliError(`cannot write ${path}: is a directory`, 'give a file name');
  if (existing && !existing.isFile())
    throw new CliError(`cannot write ${path}: there is something that is no file`, 'give another name');
  return { target: existing ? realpathSync(path) : endOfLinks(path), existing };
}

const notWritten = (error: unknown, path: string): unknown => {
  const missing = (error as NodeJS.ErrnoException).code === 'ENOENT' && !existsSync(dirname(path));
  return systemError(error, 'write', path, missing ? `create ${dirname(path)} first` : undefined);
};

/** For those whose work would be lost else. @throws CliError if no file can be written there now */
export function checkOutput(path: string): void {
  try {
    if (isStream(path)) return;
    accessSync(dirname(placeFor(path).target), constants.W_OK);
  } catch (error) {
    throw notWritten(error, path);
  }
}

/**
 * The same for a file that `write` writes, by its descriptor. Nothing but a file is replaced.
 * @param durable whether it is on its disk when this returns, whatever becomes of the host then
 * @throws CliError if it cannot be written, and what `write` throws; nothing is left behind.
 */
export function replaceFile(
  path: string,
  mode: number,
  write: (file: number) => void,
  durable = false,
): void {
  const letGo = holdSignals();
  let temporary: string | undefined;
  try {
    const { target, existing } = placeFor(path);
    // Not by its name, to which nothing might fit.
    const candidate = join(dirname(target), `.previrt-${randomUUID()}.tmp`);
    const permissions = existing && existing.mode & 0o777;
    const file = openSync(candidate, 'wx', permissions ?? mode);
    temporary = candidate;
    try {
      // Whatever the umask.
      if (permissions !== undefined) fchmodSync(file, permissions);
      write(file);
      if (durable) fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(candidate, target);
    temporary = undefined;
    if (durable) syncFolder(dirname(target));
  } catch (error) {
    if (temporary !== undefined) rmSync(temporary, { force: true });
    throw notWritten(error, path);
  } finally {
    letGo();
  }
}
