/**
 * The patch table: all sites of an image by address, their original bytes, and
 * what is burned in. The wedge reads it in place, so its layout is generated
 * into C (`cStruct`).
 */

import { readStruct, viewOf, writeStruct } from '../elf/codec.ts';
import { formatAddress } from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';
import { type GuestVirtual, guestVirtual } from '../x86/address.ts';
import { DOMAINS, SITE_KINDS } from '../x86/site-kinds.ts';
import { defineStruct } from '../x86/struct.ts';
import type { Site } from './site.ts';

export const PATCH_TABLE_HEADER = defineStruct(
  'patch_table',
  'Header of the patch table; the entries follow.',
  [
    ['magic', 'u32', 'PATCH_TABLE_MAGIC'],
    ['version', 'u16', 'PATCH_TABLE_VERSION'],
    ['entry_size', 'u16', 'bytes'],
    ['count', 'u32', 'entries'],
    ['reserved', 'u32', '0'],
  ],
);

export const PATCH_ENTRY = defineStruct('patch_entry', 'A site and what is burned in; sorted by address.', [
  ['address', 'u32', 'guest-virtual, first byte of the slot'],
  ['length', 'u8', 'bytes of the slot'],
  ['widening', 'u8', 'bytes in front of the original instruction'],
  ['domain', 'u8', 'DOMAIN_*'],
  ['kind', 'u8', 'SITE_KIND_*'],
  ['flags', 'u16', 'SITE_FLAG_*'],
  ['entry', 'u16', 'the entry that the slot calls, or PATCH_*'],
  ['original', ['u8', 16], 'the original slot, zeros behind it'],
  ['owner', 'u32', 'the module that it belongs to, as the guest knows it; 0: the kernel'],
  ['next', 'u32', 'for burning again: what entry is to become, or PATCH_GUESTS'],
]);

/** "PVPT" in memory order. */
export const PATCH_TABLE_MAGIC = 0x54505650;
export const PATCH_TABLE_VERSION = 2;
export const PATCH_NOT_BURNED = 0xffff;
/** The slot's first byte is TRAPPING_BYTE: for code that was never annotated. */
export const PATCH_TRAPS = 0xfffe;
/** That of HLT, which is refused in every ring but 0. */
export const TRAPPING_BYTE = 0xf4;
/** As PATCH_TRAPS, once the kernel itself has copied such a slot there; in the file something else is. */
export const PATCH_COPY = 0xfffc;
/** Only while burning again: the guest itself has changed the slot. */
export const PATCH_GUESTS = 0xfffd;

export interface PatchEntry {
  readonly address: GuestVirtual;
  readonly length: number;
  readonly widening: number;
  /** DOMAINS, SITE_KINDS and SITE_FLAGS by number. */
  readonly domain: number;
  readonly kind: number;
  readonly flags: number;
  /** Number of the target's entry, or one of PATCH_*. */
  readonly entry: number;
  /** As long as the slot. */
  readonly original: Uint8Array;
}

/** What the table takes from a site. */
export type PatchedSite = Pick<
  Site,
  'address' | 'length' | 'widening' | 'domain' | 'kind' | 'flags' | 'original'
>;

export const patchEntry = (site: PatchedSite, entry: number): PatchEntry => ({
  address: site.address,
  length: site.length,
  widening: site.widening,
  domain: DOMAINS[site.domain],
  kind: SITE_KINDS[site.kind].id,
  flags: site.flags,
  entry,
  original: site.original,
});

/** An entry as a running guest has it. */
export interface OwnedPatchEntry extends PatchEntry {
  /** The module that it belongs to, as the guest knows it; 0: the kernel. */
  readonly owner: number;
}

const ORIGINAL_SIZE = 16;

/** The entries alone, one behind the other. */
export function encodeEntries(entries: readonly OwnedPatchEntry[]): Uint8Array {
  const out = new Uint8Array(entries.length * PATCH_ENTRY.size);
  const view = viewOf(out);
  entries.forEach((entry, index) => {
    const original = new Uint8Array(ORIGINAL_SIZE);
    original.set(entry.original);
    writeStruct(PATCH_ENTRY, view, index * PATCH_ENTRY.size, { ...entry, original, next: 0 });
  });
  return out;
}

/** @param entries sorted by address */
export function encodePatchTable(entries: readonly PatchEntry[]): Uint8Array {
  const out = new Uint8Array(PATCH_TABLE_HEADER.size + entries.length * PATCH_ENTRY.size);
  const view = viewOf(out);
  writeStruct(PATCH_TABLE_HEADER, view, 0, {
    magic: PATCH_TABLE_MAGIC,
    version: PATCH_TABLE_VERSION,
    entry_size: PATCH_ENTRY.size,
    count: entries.length,
    reserved: 0,
  });
  const owned = entries.map((entry) => ({ ...entry, owner: 0 }));
  out.set(encodeEntries(owned), PATCH_TABLE_HEADER.size);
  return out;
}

interface Header {
  readonly magic: number;
  readonly version: number;
  readonly entry_size: number;
  readonly count: number;
}

/** @throws InputError if it is none of this version, is cut short, or not in order. */
export function decodePatchTable(bytes: Uint8Array): PatchEntry[] {
  const view = viewOf(bytes);
  const header = readStruct<Header>(PATCH_TABLE_HEADER, view, 0, 'the patch table');
  if (header.magic !== PATCH_TABLE_MAGIC)
    throw new InputError('the patch table does not begin with its mark');
  if (header.version !== PATCH_TABLE_VERSION || header.entry_size !== PATCH_ENTRY.size)
    throw new InputError(`the patch table has version ${header.version}, not ${PATCH_TABLE_VERSION}`);
  if (bytes.length !== PATCH_TABLE_HEADER.size + header.count * PATCH_ENTRY.size)
    throw new InputError(`the patch table of ${header.count} entries has ${bytes.length} bytes`);
  return decodeEntries(bytes.subarray(PATCH_TABLE_HEADER.size), 0).map(({ owner: _, ...entry }) => entry);
}

/**
 * Whole entries, sorted by address.
 * @param first number of the first of them, for messages
 * @throws InputError if they are not in order or one is too long
 */
export function decodeEntries(bytes: Uint8Array, first: number): OwnedPatchEntry[] {
  const view = viewOf(bytes);
  let end = 0;
  return Array.from({ length: bytes.length / PATCH_ENTRY.size }, (_, index) => {
    const what = `patch entry ${first + index}`;
    const { original, ...entry } = readStruct<OwnedPatchEntry>(
      PATCH_ENTRY,
      view,
      index * PATCH_ENTRY.size,
      what,
    );
    if (entry.address < end || entry.length > ORIGINAL_SIZE)
      throw new InputError(`${what} (${formatAddress(entry.address)}) is out of order or too long`);
    if (entry.widening >= entry.length)
      throw new InputError(
        `${what} (${formatAddress(entry.address)}) has no instruction behind what widens it`,
      );
    end = entry.address + entry.length;
    return {
      address: guestVirtual(entry.address),
      length: entry.length,
      widening: entry.widening,
      domain: entry.domain,
      kind: entry.kind,
      flags: entry.flags,
      entry: entry.entry,
      original: original.slice(0, entry.length),
      owner: entry.owner,
    };
  });
}
