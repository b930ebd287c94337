/** From the command to the first line that a script in the guest's shell prints. */

import { step } from '../../guests/steps.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { GOALS } from '../goals.ts';
import type { Part, Result } from '../part.ts';
import { type Command, execute, type Peer } from '../peers/peer.ts';
import { hosted, qemu } from '../peers/previrt.ts';
import { uml } from '../peers/uml.ts';
import { median } from '../timing.ts';

const PEERS = [hosted, uml, qemu] as const;
const ROUNDS = 5;
export const MARK = 'the shell runs';

/** Seconds from the start of the command to the mark. */
export async function timeToShell(command: Command, peer: Peer): Promise<number> {
  const start = performance.now();
  let end: number | undefined;
  await execute(command, (line) => {
    if (line.includes(MARK)) end ??= performance.now();
  });
  if (end === undefined) throw new InputError(`${peer.name} did not reach its shell`);
  return (end - start) / 1000;
}

async function run(folder: string): Promise<Result> {
  const commands = new Map<Peer, Command>();
  for (const peer of PEERS) commands.set(peer, await peer.command(`echo ${MARK}\n`, folder));
  const times = new Map<Peer, number[]>(PEERS.map((peer) => [peer, []]));
  await step('Booting', async (report) => {
    for (let round = 1; round <= ROUNDS; round++)
      for (const [peer, command] of commands) {
        report(`${peer.name}, round ${round} of ${ROUNDS}`);
        times.get(peer)!.push(await timeToShell(command, peer));
      }
  });
  return {
    rows: PEERS.map((peer) => ({
      what: `start to shell, ${peer.name}`,
      value: median(times.get(peer)!),
      unit: 's',
      ...(peer === hosted && { goal: GOALS.boot }),
    })),
  };
}

export const boot: Part = {
  name: 'boot',
  what: 'start to shell hosted, on User-Mode Linux and on QEMU TCG',
  run,
};
