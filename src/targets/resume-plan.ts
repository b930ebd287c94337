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

type Parts = Pick<BootFileOptions, 'plan' | 'ramSize' | 'resumed' | 'sites' | 'linkOffset' | 'awaited'>;

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
 * The same with RAM in it, without its pages that are zero.
 * @throws InputError if RAM cannot be read
 */
export function resumeParts(machine: Machine): Parts {
  const chunks = Array.from(nonZeroRuns(machine.ram), ({ start: address, bytes }) => ({
    address,
    bytes: bytes.slice(),
  }));
  return { ...arrivedParts(machine, machine.ram.size), plan: { ...NO_PLAN, chunks } };
}
