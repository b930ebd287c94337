/** How an image is started, whatever the target: by the boot protocol its kernel speaks. */

import type { ElfImage } from '../elf/image.ts';
import type { BootPlan } from '../machine/boot-plan.ts';
import { LINUX_PANIC, linuxBootPlan } from '../machine/linux-boot.ts';
import { isMultiboot, multibootPlan } from '../machine/multiboot.ts';
import { linuxCommandLine } from '../machine/virtual-pc.ts';
import type { RunOptions } from './target.ts';

export interface Boot {
  readonly plan: BootPlan;
  /** What the kernel prints when it panics; undefined if that is not known. */
  readonly panicPattern: string | undefined;
}

/** @throws InputError if image, initrd and command line do not fit into the machine */
export function prepareBoot(
  elf: ElfImage,
  { memory, initrd, append }: Pick<RunOptions, 'memory' | 'initrd' | 'append'>,
): Boot {
  if (isMultiboot(elf))
    return { plan: multibootPlan(elf, { memory, initrd, commandLine: append }), panicPattern: undefined };
  const commandLine = linuxCommandLine(append);
  return { plan: linuxBootPlan(elf, { memory, initrd, commandLine }), panicPattern: LINUX_PANIC };
}
