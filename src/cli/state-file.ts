/** Writing a machine state to a file, which only its owner may read: all of the guest's memory is in it. */

import { statSync } from 'node:fs';
import type { Machine } from '../machine/state.ts';
import { writeStateFile } from '../machine/state-writer.ts';
import { replaceFile } from './files.ts';

/** A file that a machine state is wanted in. */
export interface Wanted {
  readonly file: string;
  readonly compress: boolean;
  /** Whether the guest ends when it is written: then the file is all that there is of it. */
  readonly end: boolean;
}

/** Bytes of what stat counts. */
const STAT_BLOCK = 512;

/** Bytes that the file takes. @throws CliError if it cannot be written */
export function writeState(machine: Machine, { file, compress, end }: Wanted): number {
  replaceFile(file, 0o600, (descriptor) => writeStateFile(descriptor, machine, { compress }), end);
  return statSync(file).blocks * STAT_BLOCK;
}
