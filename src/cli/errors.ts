/**
 * What the command line does with errors: those that the user can act on are
 * one line on standard error, without a stack trace.
 *
 * Exit status 1 is an error, 2 wrong usage.
 */

import { CommanderError } from 'commander';
import { InputError } from '../elf/input-error.ts';

export const EXIT_FAILURE = 1;
export const EXIT_USAGE = 2;

/** An error of a command: what, where, and as `advice` what to do. */
export class CliError extends InputError {
  override readonly name: string = 'CliError';
}

/** Options that do not go together, or with what they are given to. */
export class UsageError extends CliError {
  override readonly name = 'UsageError';
}

/** Runs `body`, naming `place` (a file) in front of what it says of bad input. */
export function inPlace<T>(place: string, body: () => T): T {
  try {
    return body();
  } catch (error) {
    if (error instanceof InputError) throw new CliError(`${place}: ${error.message}`, error.advice);
    throw error;
  }
}

/** Why the operating system refused, or Node in front of it, by the error's code. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  EACCES: 'permission denied',
  EPERM: 'operation not permitted',
  EISDIR: 'is a directory',
  ENOTDIR: 'a part of the path is not a directory',
  ENOSPC: 'no space left',
  EDQUOT: 'disk quota exceeded',
  EFBIG: 'the file may not be that large',
  EROFS: 'the file system is read-only',
  ENAMETOOLONG: 'the name is too long',
  ELOOP: 'too many symbolic links',
  EPIPE: 'nobody reads it any more',
  EADDRINUSE: 'there is something already',
  ECONNREFUSED: 'nobody listens there',
  ENOTSOCK: 'is no socket',
  ESPIPE: 'is a pipe, and has to be a file',
  ERR_FS_FILE_TOO_LARGE: 'is larger than 2 GiB',
};

const isSystemError = (error: unknown): error is Error & { code: string } =>
  error instanceof Error &&
  'code' in error &&
  typeof error.code === 'string' &&
  ('syscall' in error || Object.hasOwn(REASONS, error.code));

/** A refused system call on `path` as an error of the command; anything else as it is. */
export const systemError = (error: unknown, doing: string, path: string, advice?: string): unknown =>
  isSystemError(error)
    ? new CliError(`cannot ${doing} ${path}: ${REASONS[error.code] ?? error.code}`, advice)
    : error;

/** Prints an error as the user should see it and returns the exit status. */
export function reportError(error: unknown, write: (text: string) => void): number {
  // Commander has printed its own message, help and version included.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : EXIT_USAGE;
  const { PREVIRT_DEBUG } = process.env;
  if (error instanceof InputError) {
    write(`previrt: ${error.message}${error.advice ? `; ${error.advice}` : ''}\n`);
    if (PREVIRT_DEBUG) write(`${error.stack}\n`);
    if (error instanceof UsageError) return EXIT_USAGE;
  } else if (isSystemError(error) && !PREVIRT_DEBUG) {
    write(`previrt: ${error.message}\n`);
  } else {
    const detail = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    write(`previrt: internal error: ${detail.split('\n')[0]}; set PREVIRT_DEBUG=1 for the stack trace\n`);
    if (PREVIRT_DEBUG && error instanceof Error) write(`${error.stack}\n`);
  }
  return EXIT_FAILURE;
}
