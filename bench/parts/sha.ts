/** SHA-256 over 64 MiB by the same 32-bit program, as a guest's process and natively. */

import { GOALS } from '../goals.ts';
import { measure, rowOf } from '../measure.ts';
import { slowdown } from '../osbench.ts';
import type { Part, Result } from '../part.ts';
import { native32 } from '../peers/native.ts';
import { hosted } from '../peers/previrt.ts';

const ROW = 'sha256_64M';
const ROUNDS = 5;

async function run(folder: string): Promise<Result> {
  const found = await measure({ native32, hosted }, folder, ROUNDS, ROW);
  const [native, guest] = [rowOf(found.native32, ROW, native32), rowOf(found.hosted, ROW, hosted)];
  return {
    rows: [
      { what: 'SHA-256 hosted, to native', value: slowdown(guest, native), unit: 'ratio', goal: GOALS.sha },
      { what: 'hosted', value: guest.value, unit: 'ms' },
      { what: 'native', value: native.value, unit: 'ms' },
    ],
  };
}

export const sha: Part = { name: 'sha', what: 'SHA-256 over 64 MiB hosted, to native', run };
