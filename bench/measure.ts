/** Runs osbench on peers. */

import { step } from '../guests/steps.ts';
import { InputError } from '../src/elf/input-error.ts';
import { bestOf, type Measurement, type Measurements, parseOsbench } from './osbench.ts';
import { execute, type Peer } from './peers/peer.ts';

/** What a run that got to its end prints. */
const COMPLETE = 'osbench is complete';
/** Lines of one that did not. */
const TAIL = 5;

/**
 * Each peer's best of `rounds` runs; a round has all peers one after the other,
 * so that a host that is slower for a while is so for all. `only` is a part of
 * the rows' names.
 *
 * @throws InputError if a run does not get to its end
 */
export async function measure<Name extends string>(
  peers: Readonly<Record<Name, Peer>>,
  folder: string,
  rounds: number,
  only = '',
): Promise<Record<Name, Measurements>> {
  const script = `osbench dir=\${SCRATCH:-/tmp} only=${only} && echo ${COMPLETE}\n`;
  const named = Object.entries(peers) as [Name, Peer][];
  const runs = new Map<Name, Measurements[]>(named.map(([name]) => [name, []]));
  for (let round = 1; round <= rounds; round++)
    for (const [name, peer] of named) {
      const command = await peer.command(script, folder);
      const lines = await step(`osbench on ${peer.name}, round ${round} of ${rounds}`, (report) =>
        execute(command, (line) => report(line.trimEnd().replace(/\s+/g, ' '))),
      );
      if (!lines.includes(COMPLETE))
        throw new InputError(
          `osbench did not end well on ${peer.name}`,
          `it printed: ${lines.slice(-TAIL).join(' | ')}`,
        );
      runs.get(name)!.push(parseOsbench(lines));
    }
  const best = named.map(([name]) => [name, bestOf(runs.get(name)!)] as const);
  return Object.fromEntries(best) as Record<Name, Measurements>;
}

/** @throws InputError if the row is not there */
export function rowOf(measurements: Measurements, row: string, peer: Peer): Measurement {
  const found = measurements.get(row);
  if (found === undefined) throw new InputError(`osbench printed no row ${row} on ${peer.name}`);
  return found;
}
