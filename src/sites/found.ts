/**
 * Sites of code that lies in memory, where nothing says any more where its
 * records are: a kernel keeps the sections of a module that it has loaded, but
 * not their headers. So whatever could be a record is looked at, at every byte,
 * and is one if it leads into the code, to exactly the instruction that it
 * names, widened as it says. What leads elsewhere is none: the records of
 * initialization code that is gone, and of slots that the guest has changed
 * itself, are left alone like anything else.
 */

import { Decoder, DecoderOptions, Instruction } from 'iced-x86';
import { viewOf } from '../elf/codec.ts';
import { InputError } from '../elf/input-error.ts';
import { type GuestVirtual, guestVirtual } from '../x86/address.ts';
import {
  SITE_FLAGS,
  SITE_RECORD_SIZE,
  SITE_RECORD_VERSION,
  SLOT_LENGTH_ABSOLUTE,
} from '../x86/site-record.ts';
import type { PatchedSite } from './patch-table.ts';
import { decodeSlot, meaningOf, recordAt } from './site.ts';

/** A range of guest-virtual memory. */
export interface Piece {
  readonly address: GuestVirtual;
  readonly bytes: Uint8Array;
}

/** Of a record, where its version stands. */
const VERSION = 10;

/** Whether a range of `length` bytes at `address` lies in a piece. */
export const pieceHolds = ({ address: start, bytes }: Piece, address: number, length: number): boolean =>
  address >= start && address + length <= start + bytes.length;

/**
 * The sites whose records lie in `data` and lead into `code`, in the order of the records. 32-bit code.
 * @throws InputError if they are more than `most`
 */
export function findSites(data: Piece, code: readonly Piece[], most: number): PatchedSite[] {
  const sites: PatchedSite[] = [];
  const instruction = new Instruction();
  const pieces = code.map((piece) => ({
    ...piece,
    decoder: new Decoder(32, piece.bytes, DecoderOptions.None),
  }));
  const view = viewOf(data.bytes);
  const siteAt = (at: number): PatchedSite | undefined => {
    if (view.getUint16(at + VERSION, true) !== SITE_RECORD_VERSION) return undefined;
    const record = recordAt(view, at);
    const meaning = meaningOf(record, 32);
    if (typeof meaning === 'string' || meaning.domain === 'entry') return undefined;
    const { length, widening, flags } = record;
    const address = (data.address + at + record.distance) >>> 0;
    const piece = pieces.find((one) => pieceHolds(one, address, length));
    if (!piece) return undefined;
    const position = address - piece.address;
    const original = piece.bytes.slice(position, position + length);
    if (!decodeSlot(piece.decoder, position, original, widening, flags, meaning.kind, instruction))
      return undefined;
    return { address: guestVirtual(address), length, widening, flags, original, ...meaning };
  };
  try {
    for (let at = 0; at + SITE_RECORD_SIZE <= data.bytes.length; ) {
      const site = siteAt(at);
      if (site && sites.push(site) > most) throw new InputError(`more than ${most} site records`);
      at += site ? SITE_RECORD_SIZE : 1;
    }
    return sites;
  } finally {
    for (const { decoder } of pieces) decoder.free();
    instruction.free();
  }
}

const keyAt = (bytes: Uint8Array, at: number): string =>
  Buffer.from(bytes.subarray(at, at + SLOT_LENGTH_ABSOLUTE)).toString('latin1');

/**
 * Where the kernel has copied sites to: the slots of alternatives, which no
 * compiler would write like that, at places of the code where no site is.
 * @param sites apart from each other
 */
export function findCopies({ address, bytes }: Piece, sites: readonly PatchedSite[]): PatchedSite[] {
  const known = new Map<string, PatchedSite>();
  const covered = new Uint8Array(bytes.length);
  for (const site of sites) {
    if (site.flags & SITE_FLAGS.absolute) known.set(keyAt(site.original, 0), site);
    const start = site.address - address;
    if (start >= 0 && start < bytes.length) covered.fill(1, start, start + site.length);
  }
  const first = new Set([...known.values()].map(({ original }) => original[0]));
  const copies: PatchedSite[] = [];
  for (let at = 0; at < bytes.length; at++) {
    if (!first.has(bytes[at])) continue;
    const site = known.get(keyAt(bytes, at));
    if (!site) continue;
    const end = at + site.length;
    if (covered.subarray(at, end).includes(1) || Buffer.compare(bytes.subarray(at, end), site.original) !== 0)
      continue;
    copies.push({ ...site, address: guestVirtual(address + at) });
    at = end - 1;
  }
  return copies;
}
