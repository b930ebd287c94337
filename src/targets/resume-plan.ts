/** What a wedge takes up a guest from. */

import type { BootPlan } from '../machine/boot-plan.ts';
import { nonZeroRuns } from '../machine/ram.ts';
import type { Machine } from '../machine/state.ts';
import { encodeMachineState } from '../machine/state-blob.ts';
import { guestPhysical } from '../x86/address.ts';
import type { BootFileOptions } from './boot-file.ts';

/** RAM without its pages that are zero. The machine state says where the guest stands, so there is no beginning. */
function resumePlan({ ram }: Machine): BootPlan {
  const start = guestPhysical(0);
  const chunks = Array.from(nonZeroRuns(ram), ({ start: address, bytes }) => ({
    address,
    bytes: bytes.slice(),
  }));
  return { entry: start, eax: 0, ebx: 0, esi: 0, esp: start, chunks };
}

/** @throws InputError if RAM cannot be read */
export const resumeParts = (
  machine: Machine,
): Pick<BootFileOptions, 'plan' | 'ramSize' | 'resumed' | 'sites' | 'linkOffset'> => ({
  plan: resumePlan(machine),
  ramSize: machine.ram.size,
  resumed: encodeMachineState(machine),
  sites: [],
  linkOffset: 0,
});
