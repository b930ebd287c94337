/**
 * The symbol table that a Linux kernel carries for itself, in its read-only
 * data (kernel/kallsyms.c, scripts/kallsyms.c). A stripped kernel still has it:
 * it names the start of every function. Nothing tells where it lies, so it is
 * found by its shape:
 *
 *   token index   256 16-bit offsets, ascending from 0, of the strings in
 *   token table   which stands in front of it: what each byte of a name expands to
 *   markers       in front of that: 32-bit offset of each 256th name
 *   names         a length and as many tokens; the first letter is the type, as nm prints it
 *   count         in front of the names, 32 bits
 *   addresses     before the count or behind the token index; plain, or relative to a base
 */

import { viewOf } from '../elf/codec.ts';

export interface KernelSymbol {
  readonly address: number;
  /** As nm prints it: t and T are functions. */
  readonly type: string;
  readonly name: string;
}

const TOKENS = 256;
const NAMES_A_MARKER = 256;
/** No token is longer, no kernel has more symbols, or fewer. */
const MAX_TOKEN = 128;
const MAX_SYMBOLS = 1 << 21;
const MIN_SYMBOLS = 16;
/** Bytes of names that are looked at in all: made-up tables must not take for ever. */
const MAX_BYTES = 1 << 26;
const TYPE = /^[a-zA-Z?]/;

const align = (offset: number): number => (offset + 3) & ~3;

interface Tokens {
  /** Where the table begins, and where the index ends. */
  readonly start: number;
  readonly end: number;
  readonly strings: readonly string[];
}

/** The strings of a token table at `start`, if it is one that the offsets fit. */
function tokenStrings(bytes: Uint8Array, start: number, offsets: readonly number[]): string[] | undefined {
  const strings: string[] = [];
  for (const [index, offset] of offsets.entries()) {
    const from = start + offset;
    const to = bytes.indexOf(0, from);
    const next = offsets[index + 1];
    if (to <= from || to - from > MAX_TOKEN || (next !== undefined && to + 1 !== start + next))
      return undefined;
    strings.push(Buffer.from(bytes.subarray(from, to)).toString('latin1'));
  }
  return strings;
}

/** Every token table in the bytes; there is one, but chance may offer more. */
function* tokenTables(bytes: Uint8Array): Generator<Tokens> {
  const view = viewOf(bytes);
  for (let at = 0; at + TOKENS * 2 <= bytes.length; at += 4) {
    // The commonest case first: most words are no beginning of an index.
    if (view.getUint16(at, true) !== 0 || view.getUint16(at + 2, true) === 0) continue;
    const offsets = [0];
    while (offsets.length < TOKENS) {
      const offset = view.getUint16(at + offsets.length * 2, true);
      const step = offset - offsets[offsets.length - 1]!;
      if (step < 2 || step > MAX_TOKEN) break;
      offsets.push(offset);
    }
    if (offsets.length < TOKENS) continue;
    // The last string ends right before the index, but for padding.
    for (let end = at; end > at - 4; end--) {
      const last = bytes.lastIndexOf(0, end - 2) + 1;
      const start = last - offsets[TOKENS - 1]!;
      if (bytes[end - 1] !== 0 || start < 0) continue;
      const strings = tokenStrings(bytes, start, offsets);
      if (strings) yield { start, end: at + TOKENS * 2, strings };
    }
  }
}

interface Names {
  /** Where the count stands. */
  readonly start: number;
  /** Type and name together. */
  readonly names: readonly string[];
}

/** Names behind a count at `at`, if the markers behind them say so as well. `budget` shrinks by what is looked at. */
function namesAt(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  tokens: Tokens,
  budget: { bytes: number },
): Names | undefined {
  const count = view.getUint32(at, true);
  if (count < MIN_SYMBOLS || count > MAX_SYMBOLS || count * 2 > tokens.start - at) return undefined;
  const first = at + 4;
  const names: string[] = [];
  const markers: number[] = [];
  let position = first;
  for (let index = 0; index < count; index++) {
    if (index % NAMES_A_MARKER === 0) markers.push(position - first);
    let length = bytes[position++]!;
    // Long names take two bytes, the lower seven bits first (since 6.1).
    if (length & 0x80) length = (length & 0x7f) | (bytes[position++]! << 7);
    budget.bytes -= 1 + length;
    if (length === 0 || position + length > tokens.start || budget.bytes < 0) return undefined;
    let name = '';
    for (const token of bytes.subarray(position, position + length)) name += tokens.strings[token]!;
    if (!TYPE.test(name)) return undefined;
    names.push(name);
    position += length;
  }
  const markersAt = align(position);
  if (markersAt + markers.length * 4 > tokens.start) return undefined;
  return markers.every((marker, index) => view.getUint32(markersAt + index * 4, true) === marker)
    ? { start: at, names }
    : undefined;
}

function findNames(
  bytes: Uint8Array,
  view: DataView,
  tokens: Tokens,
  budget: { bytes: number },
): Names | undefined {
  for (let at = (tokens.start - 4) & ~3; at >= 0 && budget.bytes > 0; at -= 4) {
    const found = namesAt(bytes, view, at, tokens, budget);
    if (found) return found;
  }
  return undefined;
}

/** Places where the addresses may stand, in the order they were used: offset of the first, and of the base. */
const ADDRESS_PLACES: readonly ((names: Names, tokens: Tokens) => { at: number; base?: number })[] = [
  ({ start, names }) => ({ at: start - 4 - names.length * 4, base: start - 4 }),
  ({ start, names }) => ({ at: start - names.length * 4 }),
  ({ names }, { end }) => ({ at: align(end), base: align(end) + names.length * 4 }),
];

/** Addresses, if they are ascending ones of the image. */
function readAddresses(
  view: DataView,
  count: number,
  { at, base }: { at: number; base?: number },
  inImage: (address: number) => boolean,
): number[] | undefined {
  if (at < 0 || Math.max(at + count * 4, (base ?? 0) + 4) > view.byteLength) return undefined;
  const start = base === undefined ? 0 : view.getUint32(base, true);
  const addresses = Array.from({ length: count }, (_, index) => start + view.getUint32(at + index * 4, true));
  const good = addresses.every((address, index) => address >= (addresses[index - 1] ?? 0));
  return good && inImage(addresses[0]!) && inImage(addresses[count >>> 1]!) ? addresses : undefined;
}

/**
 * The symbols in an image's data, by address; none if it carries no table.
 * @param bytes of a 32-bit kernel, tables at multiples of 4 bytes
 * @param inImage whether an address is one of the kernel's
 */
export function readKallsyms(bytes: Uint8Array, inImage: (address: number) => boolean): KernelSymbol[] {
  const view = viewOf(bytes);
  const budget = { bytes: MAX_BYTES };
  for (const tokens of tokenTables(bytes)) {
    const found = findNames(bytes, view, tokens, budget);
    if (!found) continue;
    for (const place of ADDRESS_PLACES) {
      const addresses = readAddresses(view, found.names.length, place(found, tokens), inImage);
      if (addresses)
        return addresses.map((address, index) => ({
          address,
          type: found.names[index]!.slice(0, 1),
          name: found.names[index]!.slice(1),
        }));
    }
  }
  return [];
}
