/** The targets that commands offer, by name. */

import { qemuTarget } from '../targets/bare/qemu.ts';
import { hostedTarget } from '../targets/hosted/target.ts';
import type { Target } from '../targets/target.ts';
import { CliError } from './errors.ts';

/** Each target's machines by name; the first is the usual one. What is large is loaded when it is wanted. */
export const TARGETS: Readonly<Record<string, Readonly<Record<string, () => Promise<Target>>>>> = {
  bare: {
    qemu: async () => qemuTarget,
    v86: async () => (await import('../targets/bare/v86.ts')).v86Target,
  },
  hosted: { process: async () => hostedTarget },
};

export const DEFAULT_TARGET = 'hosted';

/** @throws CliError if the target has no such machine */
export function findTarget(name: string, machine: string | undefined): Promise<Target> {
  const machines = TARGETS[name]!;
  const find = machines[machine ?? Object.keys(machines)[0]!];
  if (!find)
    throw new CliError(
      `target ${name} has no machine ${machine}`,
      `it has ${Object.keys(machines).join(' and ')}`,
    );
  return find();
}
