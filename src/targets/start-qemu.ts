/** QEMU as a process of ours. */

import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { InputError } from '../elf/input-error.ts';

export const QEMU_ADVICE = 'install qemu-system-x86';

/** What setpriv(1) ends with if there is no such program. */
const NO_PROGRAM = 127;

/**
 * Starts it. It ends when this process does, whatever ends that; and is in a
 * process group of its own: a Ctrl-C at the terminal is for us to handle.
 */
export const startQemu = (
  program: string,
  args: readonly string[],
  cwd?: string,
): ChildProcessWithoutNullStreams =>
  spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], { cwd, stdio: 'pipe', detached: true });

/**
 * Resolves when it has ended by itself, or was killed.
 * @throws InputError with its reason if it could not run the machine
 */
export function qemuEnded(qemu: ChildProcess, program: string): Promise<void> {
  let errors = '';
  qemu.stderr?.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  return new Promise((done, failed) => {
    const missing = (): void => failed(new InputError(`cannot start ${program}`, QEMU_ADVICE));
    qemu.on('error', missing);
    qemu.on('close', (status) => {
      const reason = errors.trim().split('\n').at(-1) || `${program} ended with status ${status}`;
      if (status === 0 || status === null) done();
      else if (status === NO_PROGRAM) missing();
      else failed(new InputError(reason));
    });
  });
}
