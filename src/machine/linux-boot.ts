/**
 * Linux's 32-bit boot protocol (Documentation/x86/boot.rst, "32-bit Boot
 * Protocol"): %esi holds the address of the boot parameters, the "zero page".
 */

import { viewOf } from '../elf/codec.ts';
import type { ElfImage } from '../elf/image.ts';
import { guestPhysical } from '../x86/address.ts';
import {
  BOOT_DATA,
  BOOT_STACK,
  type BootOptions,
  type BootPlan,
  commandLineBytes,
  initrdChunk,
  kernelChunks,
  kernelEnd,
  memoryMap,
  physicalEntry,
} from './boot-plan.ts';

/** What Linux prints last when it panics, in front of the reason (kernel/panic.c). */
export const LINUX_PANIC = '---[ end Kernel panic';

/** Fields of struct boot_params that a loader fills in (Documentation/x86/zero-page.rst, boot.rst): offsets. */
const BOOT_PARAMS = {
  e820Entries: 0x1e8,
  bootFlag: 0x1fe,
  header: 0x202,
  version: 0x206,
  loaderType: 0x210,
  loadFlags: 0x211,
  ramdiskImage: 0x218,
  ramdiskSize: 0x21c,
  commandLine: 0x228,
  e820Table: 0x2d0,
} as const;

const E820_ENTRY_SIZE = 20;
const E820_TYPE = { usable: 1, reserved: 2 } as const;
const ZERO_PAGE_SIZE = 4096;

/** @throws InputError if kernel, initrd or command line do not fit */
export function linuxBootPlan(elf: ElfImage, options: BootOptions): BootPlan {
  const { memory, initrd } = options;
  const kernel = kernelChunks(elf, memory);
  const parameters = new Uint8Array(ZERO_PAGE_SIZE);
  const view = viewOf(parameters);
  const commandLine = guestPhysical(BOOT_DATA + ZERO_PAGE_SIZE);

  view.setUint16(BOOT_PARAMS.bootFlag, 0xaa55, true);
  view.setUint32(BOOT_PARAMS.header, 0x5372_6448, true); // "HdrS"
  view.setUint16(BOOT_PARAMS.version, 0x20c, true);
  view.setUint8(BOOT_PARAMS.loaderType, 0xff); // no assigned number
  view.setUint8(BOOT_PARAMS.loadFlags, 1); // loaded high
  view.setUint32(BOOT_PARAMS.commandLine, commandLine, true);
  const map = memoryMap(memory);
  view.setUint8(BOOT_PARAMS.e820Entries, map.length);
  map.forEach(({ address, size, type }, index) => {
    const at = BOOT_PARAMS.e820Table + index * E820_ENTRY_SIZE;
    view.setBigUint64(at, BigInt(address), true);
    view.setBigUint64(at + 8, BigInt(size), true);
    view.setUint32(at + 16, E820_TYPE[type], true);
  });

  const chunks = [
    { address: BOOT_DATA, bytes: parameters },
    { address: commandLine, bytes: commandLineBytes(options.commandLine) },
    ...kernel,
  ];
  if (initrd) {
    const chunk = initrdChunk(initrd, memory, kernel, kernelEnd(elf));
    view.setUint32(BOOT_PARAMS.ramdiskImage, chunk.address, true);
    view.setUint32(BOOT_PARAMS.ramdiskSize, initrd.length, true);
    chunks.push(chunk);
  }
  return { entry: physicalEntry(elf), eax: 0, ebx: 0, esi: BOOT_DATA, esp: BOOT_STACK, chunks };
}
