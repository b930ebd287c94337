/** What a bare machine boots: the kernel before any burning. */

import { type ElfImage, parseElf } from '../../elf/image.ts';
import { readBurnInfo } from '../../substitution/burn-info.ts';
import { unburn } from '../../substitution/unburn.ts';

/**
 * The kernel with its own instructions at all sites: substitutions call a wedge, which is not here.
 * @throws InputError if it was changed after burning, so that the original cannot be had
 */
export const unburnedKernel = (elf: ElfImage): ElfImage =>
  readBurnInfo(elf) ? parseElf(unburn(elf.bytes)) : elf;
