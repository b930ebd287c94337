/** A system call that does nothing (getppid), by the way that the C library takes: through the vDSO. */

import { GOALS } from '../goals.ts';
import { measure, rowOf } from '../measure.ts';
import type { Part, Result } from '../part.ts';
import { native32 } from '../peers/native.ts';
import { hosted } from '../peers/previrt.ts';

const ROW = 'null_syscall';
const ROUNDS = 5;

async function run(folder: string): Promise<Result> {
  const found = await measure({ native32, hosted }, folder, ROUNDS, ROW);
  const microseconds = (nanoseconds: number): number => nanoseconds / 1000;
  return {
    rows: [
      {
        what: 'null system call hosted',
        value: microseconds(rowOf(found.hosted, ROW, hosted).value),
        unit: 'us',
        goal: GOALS.syscall,
      },
      {
        what: 'native 32',
        value: microseconds(rowOf(found.native32, ROW, native32).value),
        unit: 'us',
      },
    ],
  };
}

export const syscall: Part = { name: 'syscall', what: 'a null system call hosted, through the vDSO', run };
