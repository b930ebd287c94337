/** What annotation is worth: Debian's own kernel, in which all that is sensitive traps, beside the annotated one. */

import { step } from '../../guests/steps.ts';
import { measure, rowOf } from '../measure.ts';
import type { Part, Result, Row } from '../part.ts';
import type { Peer } from '../peers/peer.ts';
import { hosted } from '../peers/previrt.ts';
import { stockHosted, stockQemu } from '../peers/stock.ts';
import { median } from '../timing.ts';
import { MARK, timeToShell } from './boot.ts';

const PEERS = { hosted, stockHosted, stockQemu };
const ROUNDS = 3;
/** Rows of osbench: a system call, processes, a switch between two, a page fault. */
const ROWS = ['null_syscall', 'fork_exit', 'fork_exec', 'pipe_rt', 'anon_fault_page'] as const;

async function bootTime(peer: Peer, folder: string): Promise<number> {
  const command = await peer.command(`echo ${MARK}\n`, folder);
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round++) times.push(await timeToShell(command, peer));
  return median(times);
}

async function run(folder: string): Promise<Result> {
  const rows: Row[] = [];
  for (const peer of Object.values(PEERS))
    rows.push({
      what: `start to shell, ${peer.name}`,
      value: await step(`Booting ${peer.name}`, () => bootTime(peer, folder)),
      unit: 's',
    });
  const found = await measure(PEERS, folder, ROUNDS);
  for (const row of ROWS)
    for (const [key, peer] of Object.entries(PEERS)) {
      const { value } = rowOf(found[key as keyof typeof PEERS], row, peer);
      rows.push({ what: `${row}, ${peer.name}`, value: value / 1000, unit: 'us' });
    }
  return { rows };
}

export const legacy: Part = {
  name: 'legacy',
  what: "Debian's own kernel, never annotated, beside the annotated one",
  run,
};
