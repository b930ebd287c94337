/**
 * What a burned kernel says of itself. It has three more sections at its end, or four:
 *   .previrt.burn   what was done (BURN_INFO)
 *   .previrt.patch  the patch table (sites/patch-table.ts)
 *   .previrt.wedge  the wedge, as the target's runtime wants it
 *   .previrt.copy   the kernel before, if the originals are kept as a copy
 */

import { createHash } from 'node:crypto';
import { readStruct, viewOf, writeStruct } from '../elf/codec.ts';
import { type ElfImage, findSection, parseElf, sectionBytes } from '../elf/image.ts';
import { InputError, printable } from '../elf/input-error.ts';
import {
  decodePatchTable,
  PATCH_COPY,
  PATCH_NOT_BURNED,
  PATCH_TRAPS,
  type PatchEntry,
} from '../sites/patch-table.ts';
import { DOMAINS, type DomainName } from '../x86/site-kinds.ts';
import { defineStruct } from '../x86/struct.ts';

export const BURN_SECTIONS = {
  info: '.previrt.burn',
  patch: '.previrt.patch',
  wedge: '.previrt.wedge',
  copy: '.previrt.copy',
} as const;

/** Where the original bytes are kept. */
export const KEEPS = ['table', 'copy'] as const;
export type Keep = (typeof KEEPS)[number];

export interface BurnInfo {
  readonly target: string;
  readonly domains: readonly DomainName[];
  readonly keep: Keep;
  /** Bytes of the file before. */
  readonly originalSize: number;
  readonly originalHeader: Uint8Array;
  /** SHA-256 of the file before. */
  readonly digest: Uint8Array;
}

const HEADER_SIZE = 64;
const TARGET_SIZE = 16;

export const BURN_INFO = defineStruct('burn_info', 'What was burned, and how to take it back.', [
  ['magic', 'u32', 'BURN_MAGIC'],
  ['version', 'u16', 'BURN_VERSION'],
  ['keep', 'u8', 'index in KEEPS'],
  ['header_size', 'u8', 'bytes of original_header in use'],
  ['original_size', 'u64', 'bytes of the file before'],
  ['domains', 'u32', 'bit 1 << DOMAINS for each that was burned'],
  ['reserved', 'u32', '0'],
  ['target', ['u8', TARGET_SIZE], 'name, zeros behind it'],
  ['digest', ['u8', 32], 'SHA-256 of the file before'],
  ['original_header', ['u8', HEADER_SIZE], 'ELF header before'],
]);

/** "PVBN" in memory order. */
const BURN_MAGIC = 0x4e425650;
const BURN_VERSION = 1;

interface RawInfo {
  readonly magic: number;
  readonly version: number;
  readonly keep: number;
  readonly header_size: number;
  readonly original_size: number;
  readonly domains: number;
  readonly target: Uint8Array;
  readonly digest: Uint8Array;
  readonly original_header: Uint8Array;
}

/** SHA-256. */
export const digestOf = (bytes: Uint8Array): Uint8Array =>
  new Uint8Array(createHash('sha256').update(bytes).digest());

const padded = (bytes: Uint8Array, size: number): Uint8Array => {
  const out = new Uint8Array(size);
  out.set(bytes);
  return out;
};

/** Bit `1 << DOMAINS[name]` for each. */
export const domainMask = (domains: readonly DomainName[]): number =>
  domains.reduce((mask, domain) => mask | (1 << DOMAINS[domain]), 0);

export function encodeBurnInfo(info: BurnInfo): Uint8Array {
  const out = new Uint8Array(BURN_INFO.size);
  writeStruct(BURN_INFO, viewOf(out), 0, {
    magic: BURN_MAGIC,
    version: BURN_VERSION,
    keep: KEEPS.indexOf(info.keep),
    header_size: info.originalHeader.length,
    original_size: info.originalSize,
    domains: domainMask(info.domains),
    reserved: 0,
    target: padded(Buffer.from(info.target, 'latin1'), TARGET_SIZE),
    digest: info.digest,
    original_header: padded(info.originalHeader, HEADER_SIZE),
  });
  return out;
}

/** What was burned into an image, or undefined if nothing was. @throws InputError if the record of it is damaged. */
export function readBurnInfo(elf: ElfImage): BurnInfo | undefined {
  const section = findSection(elf, BURN_SECTIONS.info);
  if (!section) return undefined;
  const raw = readStruct<RawInfo>(BURN_INFO, viewOf(sectionBytes(elf, section)), 0, section.name);
  if (raw.magic !== BURN_MAGIC) throw new InputError(`section ${section.name} does not begin with its mark`);
  if (raw.version !== BURN_VERSION)
    throw new InputError(
      `burned by another previrt: version ${raw.version}, not ${BURN_VERSION}`,
      'unburn it with that one, or take the kernel that it was burned from',
    );
  const keep = KEEPS[raw.keep];
  if (!keep || raw.header_size > HEADER_SIZE || raw.original_size > elf.bytes.length)
    throw new InputError(`section ${section.name} is damaged`);
  return {
    target: printable(Buffer.from(raw.target).toString('latin1').replace(/\0+$/, '')),
    domains: (Object.keys(DOMAINS) as DomainName[]).filter((name) => raw.domains & (1 << DOMAINS[name])),
    keep,
    originalSize: raw.original_size,
    originalHeader: raw.original_header.slice(0, raw.header_size),
    digest: raw.digest,
  };
}

/** The patch table of a burned image. @throws InputError if there is none. */
export function readPatchTable(elf: ElfImage): PatchEntry[] {
  const section = findSection(elf, BURN_SECTIONS.patch);
  if (!section) throw new InputError(`section ${BURN_SECTIONS.patch} is missing`);
  return decodePatchTable(sectionBytes(elf, section));
}

/** The domains that an image was burned for. @throws InputError if it is not burned. */
export function burnedDomains(elf: ElfImage): readonly DomainName[] {
  const info = readBurnInfo(elf);
  if (!info) throw new InputError('not burned');
  return info.domains;
}

/** What burning did to an image, in numbers. @throws InputError if it is not burned. */
export function burnReport(image: Uint8Array): {
  target: string;
  domains: readonly string[];
  keep: Keep;
  burned: number;
  /** Of those that are burned: substituted by an instruction that traps. */
  trapping: number;
  left: number;
} {
  const elf = parseElf(image);
  const info = readBurnInfo(elf);
  if (!info) throw new InputError('not burned');
  const entries = readPatchTable(elf).filter(({ entry }) => entry !== PATCH_COPY);
  const left = entries.filter(({ entry }) => entry === PATCH_NOT_BURNED).length;
  const trapping = entries.filter(({ entry }) => entry === PATCH_TRAPS).length;
  const { target, domains, keep } = info;
  return { target, domains, keep, burned: entries.length - left, trapping, left };
}
