/** Long steps that say what they do and for how long, and the programs that they run. */

import { spawn } from 'node:child_process';
import { closeSync, openSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { InputError } from '../src/elf/input-error.ts';

const TERMINAL = process.stderr.isTTY === true;
/** Milliseconds between two reports. */
const INTERVAL = TERMINAL ? 500 : 15_000;

/** How far a step is: set by the step, shown by the clock. */
export type Report = (detail: string) => void;

/** Runs a step, showing on standard error what it is, how far it is and how long it took. */
export async function step<T>(title: string, body: (report: Report) => Promise<T>): Promise<T> {
  const start = Date.now();
  let detail = '';
  const line = (): string =>
    `${title}${detail && `: ${detail}`} (${Math.round((Date.now() - start) / 1000)} s)`;
  const show = (end: string): void => {
    process.stderr.write(TERMINAL ? `\r\x1b[K${line()}${end}` : `${line()}${end.trimEnd()}\n`);
  };
  if (!TERMINAL) process.stderr.write(`${title} ...\n`);
  const timer = setInterval(() => show(''), INTERVAL);
  try {
    const result = await body((text) => {
      detail = text;
    });
    show('\n');
    return result;
  } catch (error) {
    show(' failed\n');
    throw error;
  } finally {
    clearInterval(timer);
  }
}

export interface RunSettings {
  readonly cwd?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Sees each line of standard output. */
  readonly onLine?: (line: string) => void;
  /** File for all that it writes, for those who want to see more of a failure than its end. */
  readonly log?: string;
  /** A failure is no news: its output is not shown. */
  readonly mayFail?: boolean;
}

/** How many lines of a failed program's output are shown. */
const TAIL = 20;

export class ProgramFailure extends InputError {
  /** The last lines of what the program wrote. */
  readonly output: string;

  constructor(message: string, output: string, advice: string | undefined) {
    super(message, advice);
    this.output = output;
  }
}

/**
 * Runs a program to its end; returns what it wrote to standard output.
 *
 * @throws ProgramFailure if it fails, after its last lines have been shown; InputError if it cannot be started
 */
export function runProgram(
  program: string,
  args: readonly string[],
  settings: RunSettings = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(settings.cwd && { cwd: settings.cwd }),
      env: { ...process.env, LC_ALL: 'C', ...settings.env },
    });
    const output: string[] = [];
    const tail: string[] = [];
    const log = settings.log === undefined ? undefined : openSync(settings.log, 'w');
    const keep = (line: string): void => {
      if (log !== undefined) writeSync(log, `${line}\n`);
      tail.push(line);
      if (tail.length > TAIL) tail.shift();
    };
    createInterface(child.stdout).on('line', (line) => {
      output.push(line);
      keep(line);
      settings.onLine?.(line);
    });
    createInterface(child.stderr).on('line', keep);
    child.on('error', (error) => reject(new InputError(`cannot run ${program}: ${error.message}`)));
    child.on('close', (status, signal) => {
      if (log !== undefined) closeSync(log);
      if (status === 0) resolve(output.join('\n'));
      else {
        if (!settings.mayFail) process.stderr.write(`${tail.join('\n')}\n`);
        const how = `${program} ${args.join(' ')} ended with ${signal ?? `status ${status}`}`;
        const advice = settings.log && `all of its output is in ${settings.log}`;
        reject(new ProgramFailure(how, tail.join('\n'), advice));
      }
    });
  });
}
