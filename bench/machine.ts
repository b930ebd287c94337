/** The machine a benchmark ran on. */

import { cpus, loadavg, release, type } from 'node:os';

export interface Machine {
  readonly processor: string;
  readonly processors: number;
  /** Kernel and its release. */
  readonly system: string;
  /** Processes that wanted to run in the last minute, on average: above 0 something else was going on. */
  readonly load: number;
}

export const thisMachine = (): Machine => ({
  processor: cpus()[0]?.model.trim() ?? 'unknown processor',
  processors: cpus().length,
  system: `${type()} ${release()}`,
  load: loadavg()[0]!,
});
