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
  v86: { options: ['--target', 'bare', '--machine', 'v86'], patience: 4 },
} as const satisfies Record<string, Machine>;

export type MachineName = keyof typeof MACHINES;

export const ALL = Object.keys(MACHINES) as MachineName[];
/** v86 has no disk, is slow with what is large, and its clock stands still while its thread is busy. */
export const FULL: readonly MachineName[] = ['hosted', 'qemu'];
