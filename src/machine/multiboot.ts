/**
 * Multiboot 1 (Multiboot Specification 0.6.96): %eax holds a magic number,
 * %ebx the address of the information structure.
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

const HEADER_MAGIC = 0x1bad_b002;
const LOADER_MAGIC = 0x2bad_b002;
/** The header lies within the first 8 KiB of the image (3.1). */
const SEARCH_SIZE = 8192;

/** Fields of the information structure (3.3): offsets. */
const INFO = {
  flags: 0,
  memLower: 4,
  memUpper: 8,
  commandLine: 16,
  modsCount: 20,
  modsAddress: 24,
  mmapLength: 44,
  mmapAddress: 48,
} as const;
const FLAGS = { memory: 1 << 0, commandLine: 1 << 2, modules: 1 << 3, memoryMap: 1 << 6 } as const;
const INFO_SIZE = 120;
const MODULE_SIZE = 16;
const MAP_ENTRY_SIZE = 24;

/** Whether an image asks for a Multiboot loader. */
export function isMultiboot(elf: ElfImage): boolean {
  const end = Math.min(elf.bytes.length, SEARCH_SIZE) - 12;
  for (let at = 0; at <= end; at += 4) {
    if (elf.view.getUint32(at, true) !== HEADER_MAGIC) continue;
    const sum = HEADER_MAGIC + elf.view.getUint32(at + 4, true) + elf.view.getUint32(at + 8, true);
    if (sum % 2 ** 32 === 0) return true;
  }
  return false;
}

/** @throws InputError if kernel, initrd (as the only module) or command line do not fit */
export function multibootPlan(elf: ElfImage, options: BootOptions): BootPlan {
  const { memory, initrd } = options;
  const kernel = kernelChunks(elf, memory);
  const map = memoryMap(memory);
  const modulesAt = INFO_SIZE;
  const mapAt = modulesAt + MODULE_SIZE;
  const info = new Uint8Array(mapAt + map.length * MAP_ENTRY_SIZE);
  const view = viewOf(info);
  const commandLine = guestPhysical(BOOT_DATA + 4096);

  view.setUint32(
    INFO.flags,
    FLAGS.memory | FLAGS.commandLine | FLAGS.memoryMap | (initrd ? FLAGS.modules : 0),
    true,
  );
  view.setUint32(INFO.memLower, 639, true);
  view.setUint32(INFO.memUpper, (memory - 0x10_0000) >>> 10, true);
  view.setUint32(INFO.commandLine, commandLine, true);
  view.setUint32(INFO.mmapLength, map.length * MAP_ENTRY_SIZE, true);
  view.setUint32(INFO.mmapAddress, BOOT_DATA + mapAt, true);
  map.forEach(({ address, size, type }, index) => {
    const at = mapAt + index * MAP_ENTRY_SIZE;
    view.setUint32(at, MAP_ENTRY_SIZE - 4, true);
    view.setBigUint64(at + 4, BigInt(address), true);
    view.setBigUint64(at + 12, BigInt(size), true);
    view.setUint32(at + 20, type === 'usable' ? 1 : 2, true);
  });

  const chunks = [
    { address: BOOT_DATA, bytes: info },
    { address: commandLine, bytes: commandLineBytes(options.commandLine) },
    ...kernel,
  ];
  if (initrd) {
    const chunk = initrdChunk(initrd, memory, kernel, kernelEnd(elf));
    view.setUint32(INFO.modsCount, 1, true);
    view.setUint32(INFO.modsAddress, BOOT_DATA + modulesAt, true);
    view.setUint32(modulesAt, chunk.address, true);
    view.setUint32(modulesAt + 4, chunk.address + initrd.length, true);
    chunks.push(chunk);
  }
  return { entry: physicalEntry(elf), eax: LOADER_MAGIC, ebx: BOOT_DATA, esi: 0, esp: BOOT_STACK, chunks };
}
