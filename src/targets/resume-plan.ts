/** What a wedge takes up a guest from. */

import type { BootPlan } from '../machine/boot-plan.ts';
import { nonZeroRuns } from '../machine/ram.ts';
import type { Machine } from '../machine/state.ts';
import { encodeMachineState, type WithoutRam } from '../machine/state-blob.ts';
import { guestPhysical } from '../x86/address.ts';
import type { BootFileOptions } from './boot-file.ts';

const NOWHERE = guestPhysical(0);

/** No beginning: the machine state says where the guest stands. */
export const NO_PLAN: BootPlan = { entry: NOWHERE, eax: 0, ebx: 0, esi: 0, esp: NOWHERE, chunks: [] };

/** RAM without its pages that are zero. */
function resumePlan({ ram }: Machine, apart: boolean): BootPlan {
  const runs = apart ? [] : nonZeroRuns(ram);
  const chunks = Array.from(runs, ({ start: address, bytes }) => ({
    address,
    bytes: bytes.slice(),
  }));
  return { ...NO_PLAN, chunks };
}

type Parts = Pick<
  BootFileOptions,
  'plan' | 'ramApart' | 'ramSize' | 'resumed' | 'sites' | 'linkOffset' | 'awaited'
>;

const EMPTY = { plan: NO_PLAN, sites: [], linkOffset: 0 };

/** For a guest that is awaited: nothing of it is there yet. */
export const awaitedParts = (ramSize: number): Parts => ({ ...EMPTY, ramSize, awaited: true });

/** For one whose RAM is in its place. */
export const arrivedParts = (machine: WithoutRam, ramSize: number): Parts => ({
  ...EMPTY,
  ramSize,
  resumed: encodeMachineState(machine),
});

/**
 * @param apart whether the wedge can take RAM from its file itself
 * @throws InputError if RAM cannot be read
 */
export const resumeParts = (machine: Machine, apart = false): Parts => ({
  ...arrivedParts(machine, machine.ram.size),
  plan: resumePlan(machine, apart),
  ramApart: apart ? machine.ram.file?.pieces : undefined,
});
