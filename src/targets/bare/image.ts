/** What a bare machine can boot. */

import type { ElfImage } from '../../elf/image.ts';
import { InputError } from '../../elf/input-error.ts';
import { readBurnInfo } from '../../substitution/burn-info.ts';

/** @throws InputError if the kernel's sites hold substitutions, which only their target understands */
export function refuseBurned(elf: ElfImage): void {
  const info = readBurnInfo(elf);
  if (info) throw new InputError(`the image is burned for ${info.target}`, 'unburn it to run it on bare');
}
