/** What runs the benchmark's programs: this host, a guest of previrt, or what people use instead. */

import { cpus } from 'node:os';
import { runProgram } from '../../guests/steps.ts';
import type { Width } from '../archive.ts';

/** A program of the host with its arguments. */
export interface Command {
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
}

export interface Peer {
  readonly name: string;
  /** Bits of its programs. */
  readonly width: Width;
  /**
   * What runs a shell script on it and ends, with all made ready that it needs.
   * In the script's path are the benchmark's programs; $SCRATCH is a folder on a
   * tmpfs where it is not /tmp. `folder` keeps files until the benchmark ends.
   */
  command(script: string, folder: string): Promise<Command>;
}

/** Of every guest: the largest row keeps 64 MiB on a tmpfs, which may fill half of it. */
export const MEMORY = '512M';

/** Seconds after which a peer has lost itself. */
const LIMIT = 600;
/** The last one: interrupts of the host tend to go to the first. */
const PROCESSOR = cpus().length - 1;

/**
 * Runs a command on one processor, so that none gains from moving work to
 * another; returns the lines it printed.
 *
 * @throws InputError with the end of its output if it fails
 */
export async function execute(
  { program, args, env }: Command,
  onLine: (line: string) => void = () => {},
): Promise<string[]> {
  // In the foreground: a Ctrl-C is for the program too.
  const pinned = [
    '--foreground',
    '--kill-after=10',
    String(LIMIT),
    'taskset',
    '--cpu-list',
    String(PROCESSOR),
    program,
  ];
  const output = await runProgram('timeout', [...pinned, ...args], { onLine, ...(env && { env }) });
  // A guest's console ends lines with CR LF.
  return output.split('\n').map((line) => line.trimEnd());
}
