/** Tables as scripts/kallsyms.c of Linux writes them. */

import type { KernelSymbol } from '../../src/sites/kallsyms.ts';

/** Where the addresses stand: relative from 4.6 on, plain before, behind the rest from 6.4 on. */
export const LAYOUTS = ['relative, in front', 'plain, in front', 'relative, behind'] as const;
export type Layout = (typeof LAYOUTS)[number];

const TEXT = 0xc1000000;
const SPACING = 24;

export const isInText = (address: number): boolean => address >= TEXT && address < TEXT + 2 ** 24;

/** Names of many lengths, some of which take two bytes for it. */
export const symbolsOf = (count: number): KernelSymbol[] =>
  Array.from({ length: count }, (_, index) => ({
    address: TEXT + index * SPACING,
    type: index % 7 === 0 ? 'T' : 't',
    name: index % 50 === 3 ? `function_${index}_${'x'.repeat(150)}` : `function_${index}`,
  }));

/** What each byte expands to: itself where names use it, elsewhere a longer text. */
const TOKENS = Array.from({ length: 256 }, (_, byte) =>
  byte >= 0x30 && byte < 0x7f ? String.fromCharCode(byte) : `tok${byte}`,
);
/** One of those longer ones. */
const FUNCTION = 0x80;
TOKENS[FUNCTION] = 'function_';

function compressed(text: string): number[] {
  const bytes: number[] = [];
  for (let at = 0; at < text.length; at++)
    if (text.startsWith('function_', at)) {
      bytes.push(FUNCTION);
      at += 'function_'.length - 1;
    } else bytes.push(text.charCodeAt(at));
  return bytes;
}

const words = (...values: readonly number[]): Buffer => {
  const out = Buffer.alloc(values.length * 4);
  values.forEach((value, index) => {
    out.writeUInt32LE(value, index * 4);
  });
  return out;
};

const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);

export function kallsymsBytes(symbols: readonly KernelSymbol[], layout: Layout): Buffer {
  const base = symbols[0]!.address;
  const addresses =
    layout === 'plain, in front'
      ? words(...symbols.map(({ address }) => address))
      : words(...symbols.map(({ address }) => address - base), base);
  const names: number[] = [];
  const markers: number[] = [];
  symbols.forEach(({ type, name }, index) => {
    if (index % 256 === 0) markers.push(names.length);
    const text = compressed(type + name);
    names.push(
      ...(text.length < 0x80 ? [text.length] : [(text.length & 0x7f) | 0x80, text.length >> 7]),
      ...text,
    );
  });
  const offsets: number[] = [];
  let length = 0;
  for (const token of TOKENS) {
    offsets.push(length);
    length += token.length + 1;
  }
  const index = Buffer.alloc(512);
  offsets.forEach((offset, token) => {
    index.writeUInt16LE(offset, token * 2);
  });
  const table = [
    words(symbols.length),
    padded(Buffer.from(names)),
    words(...markers),
    padded(Buffer.from(TOKENS.map((token) => `${token}\0`).join(''), 'latin1')),
    index,
  ];
  return Buffer.concat(layout === 'relative, behind' ? [...table, addresses] : [addresses, ...table]);
}
