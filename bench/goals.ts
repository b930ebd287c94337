/** How fast previrt has to be and wants to be. */

import type { Goal } from './part.ts';

export const GOALS = {
  /** Annotating, 10^6 bytes of assembly a second; the aim is GNU as itself. */
  annotator: { better: 'more', must: 15, aim: 31 },
  /** Time to build the kernel, to the plain build's. */
  build: { better: 'less', must: 1.1, aim: 1.03 },
  /** Growth of the kernel's text, per cent. */
  size: { better: 'less', must: 1.2, aim: 0.7 },
  /** Instructions from start to shell on bare QEMU, to the plain kernel's. */
  instructions: { better: 'less', must: 1.001, aim: 1 },
  /** SHA-256 hosted, time to native. */
  sha: { better: 'less', must: 1.03, aim: 1 },
  /** From the command to the shell hosted, seconds. */
  boot: { better: 'less', must: 1.5, aim: 0.5 },
  /** Each row that stays in its address space: faster than User-Mode Linux, by the ratios to native. */
  uml: { better: 'more', must: 1, aim: 10 },
  /** The same rows' geometric mean: faster than QEMU's TCG. */
  tcg: { better: 'more', must: 2, aim: 5 },
  /** The rows that switch address spaces: as User-Mode Linux. */
  switching: { better: 'more', aim: 1 },
  /** Instructions on Xen to bare, this system's to pv-ops Linux's: rows that map nothing, and those that do. */
  pvops: { better: 'less', must: 1, aim: 0.7 },
  pvopsMapping: { better: 'less', must: 2, aim: 1 },
  /** A null system call hosted through the vDSO, microseconds. */
  syscall: { better: 'less', must: 1, aim: 0.4 },
  /** A guest of 128 MiB that works, milliseconds that it stands still. */
  reburn: { better: 'less', must: 20, aim: 5 },
  move: { better: 'less', must: 200, aim: 30 },
  moveToXen: { better: 'less', must: 2000, aim: 300 },
  moveFromBare: { better: 'less', must: 2000, aim: 300 },
  resume: { better: 'less', must: 500, aim: 100 },
} as const satisfies Record<string, Goal>;
