/** What a wedge takes up a guest from. */

import type { BootPlan } from '../machine/boot-plan.ts';
import { nonZeroRuns } from '../machine/ram.ts';
import type { Machine } from '../machine/state.ts';
import { encodeMachineState } from '../machine/state-blob.ts';
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

/**
 * @param apart whether the wedge can take RAM from its file itself
 * @throws InputError if RAM cannot be read
 */
export const resumeParts = (
  machine: Machine,
  apart = false,
): Pick<BootFileOptions, 'plan' | 'ramApart' | 'ramSize' | 'resumed' | 'sites' | 'linkOffset'> => ({
  plan: resumePlan(machine, apart),
  ramApart: apart ? machine.ram.file?.pieces : undefined,
  ramSize: machine.ram.size,
  resumed: encodeMachineState(machine),
  sites: [],
  linkOffset: 0,
});
