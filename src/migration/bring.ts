/** Bringing a guest that runs nowhere to a target that awaits it. */

import { checkFeatures } from '../machine/features.ts';
import type { Machine } from '../machine/state.ts';
import type { Incoming, ReceiveOptions, RunStatus, Target } from '../targets/target.ts';
import { copyAll } from './rounds.ts';

type Receive = NonNullable<Target['receive']>;

/**
 * Runs it to its end.
 * @param bring puts it into its place
 * @throws what `bring` throws: the run that awaits it has ended then
 */
export async function bringTo(
  receive: Receive,
  options: Omit<ReceiveOptions, 'ready'>,
  bring: (incoming: Incoming) => Promise<void>,
): Promise<RunStatus> {
  const wrong = new AbortController();
  const status = await receive({
    ...options,
    signal: AbortSignal.any([options.signal, wrong.signal]),
    ready: (incoming) => void bring(incoming).catch((error) => wrong.abort(error)),
  });
  if (wrong.signal.aborted) throw wrong.signal.reason;
  return status;
}

/** Brings a whole one. @throws InputError if the processor lacks something, or RAM cannot be read */
export async function bringWhole(machine: Machine, to: Incoming): Promise<void> {
  checkFeatures(machine.state.features, to.features);
  await copyAll(machine.ram, to);
  await to.takeUp(machine);
}
