/** Opening a kernel for the commands that look at it, burned or not. */

import { type ElfImage, parseElf } from '../elf/image.ts';
import { readAllSites } from '../sites/embedded.ts';
import type { Site } from '../sites/site.ts';
import { type BurnInfo, readBurnInfo } from '../substitution/burn-info.ts';
import { unburn } from '../substitution/unburn.ts';
import { inPlace } from './errors.ts';
import { readInput } from './files.ts';

export interface Kernel {
  /** As it was before burning. */
  readonly elf: ElfImage;
  /** By address. */
  readonly sites: readonly Site[];
  /** What was burned in, if it is burned. */
  readonly burned: BurnInfo | undefined;
}

/** @throws CliError if it cannot be read, is no annotated kernel or is damaged. */
export function openKernel(path: string): Kernel {
  const bytes = readInput(path);
  return inPlace(path, () => {
    const given = parseElf(bytes);
    const burned = readBurnInfo(given);
    const elf = burned ? parseElf(unburn(bytes)) : given;
    return { elf, sites: readAllSites(elf), burned };
  });
}
