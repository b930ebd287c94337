/** What the boot scenarios run on. */

export interface Machine {
  /** Options of `previrt run`. */
  readonly options: readonly string[];
  /** How much longer than the fastest it may take. */
  readonly patience: number;
}

export const MACHINES = {
  hosted: { options: ['--target', 'hosted'], patience: 1 },
  qemu: { options: ['--target', 'bare', '--machine', 'qemu'], patience: 2 },
  xen: { options: ['--target', 'xen'], patience: 4 },
  domU: { options: ['--target', 'xen', '--domain', 'domU'], patience: 4 },
  v86: { options: ['--target', 'bare', '--machine', 'v86'], patience: 4 },
} as const satisfies Record<string, Machine>;

export type MachineName = keyof typeof MACHINES;

/** A domain that xl starts takes long to come up, and does little that the initial one does not. */
export const ALL: readonly MachineName[] = ['hosted', 'qemu', 'xen', 'v86'];
/** v86 is slow with what is large, and its clock stands still while its thread is busy. */
export const FULL: readonly MachineName[] = ['hosted', 'qemu', 'xen', 'domU'];
/** v86 has no disk, and nobody serves Xen's initial domain one. */
export const WITH_DISK: readonly MachineName[] = ['hosted', 'qemu', 'domU'];
