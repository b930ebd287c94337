/** The targets that commands offer, by name. */

import type { Target } from '../targets/target.ts';
import { UsageError } from './errors.ts';

/** Xen itself is built from Debian's source when it is first wanted. */
async function xen(version: '4.14' | '4.17' | '4.20'): Promise<Target> {
  const [{ xenTarget }, { buildXen }, { DOM0_VERSION }, { buildToolstack, runDomU }] = await Promise.all([
    import('../targets/xen/target.ts'),
    import('../../guests/xen/hypervisor.ts'),
    import('../../guests/xen/dom0.ts'),
    import('../../guests/xen/domu.ts'),
  ]);
  const toolstack = version === DOM0_VERSION ? { build: buildToolstack, run: runDomU } : undefined;
  return xenTarget(() => buildXen(version), toolstack);
}

/** Each target's machines by name; the first is the usual one. A target is loaded when it is wanted. */
export const TARGETS: Readonly<Record<string, Readonly<Record<string, () => Promise<Target>>>>> = {
  bare: {
    qemu: async () => (await import('../targets/bare/qemu.ts')).qemuTarget,
    v86: async () => (await import('../targets/bare/v86.ts')).v86Target,
  },
  hosted: { process: async () => (await import('../targets/hosted/target.ts')).hostedTarget },
  xen: { '4.17': () => xen('4.17'), '4.14': () => xen('4.14'), '4.20': () => xen('4.20') },
};

export const DEFAULT_TARGET = 'hosted';

/** @throws CliError if the target has no such machine */
export function findTarget(name: string, machine: string | undefined): Promise<Target> {
  const machines = TARGETS[name]!;
  const wanted = machine ?? Object.keys(machines)[0]!;
  const find = Object.hasOwn(machines, wanted) ? machines[wanted] : undefined;
  if (!find)
    throw new UsageError(
      `target ${name} has no machine ${machine}`,
      `it has ${Object.keys(machines).join(' and ')}`,
    );
  return find();
}
