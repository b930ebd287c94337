/**
 * What lets most statements go at once: the annotator looks at every statement
 * of a kernel, and few of them concern it.
 */

import { SENSITIVE_REGISTERS } from '../x86/sensitive.ts';
import type { Scanner } from './scanner.ts';

const PERCENT = 37;
const COLON = 58;
const LETTER_C = 99;
const LETTER_F = 102;
const LETTER_L = 108;
const LETTER_O = 111;

/** The first two letters of sensitive registers, as one number. */
const SPECIAL_PAIRS = new Set(
  [...SENSITIVE_REGISTERS.keys()].map((name) => (name.charCodeAt(0) << 8) | name.charCodeAt(1)),
);

const MOVES = ['mov', 'push', 'pop'] as const;

/** Which words may be among some, by their first three characters in any case. */
export class Heads {
  private readonly table = new Uint8Array(1 << 15);

  constructor(words: Iterable<string>) {
    for (const word of words) {
      // What follows a word of two characters is not known.
      const thirds = word.length > 2 ? [word.charCodeAt(2)] : [...Array(32).keys()];
      for (const third of thirds) this.table[Heads.index(word.charCodeAt(0), word.charCodeAt(1), third)] = 1;
    }
  }

  /** Whether a word that begins at this byte may be among them. */
  has(bytes: Uint8Array, at: number): boolean {
    return (
      this.table[Heads.index(bytes[at] as number, bytes[at + 1] as number, bytes[at + 2] as number)] === 1
    );
  }

  private static index(first: number, second: number, third: number): number {
    return ((first & 31) << 10) | ((second & 31) << 5) | (third & 31);
  }
}

/** `.loc`, of which the compiler's output with line information is full. */
export const isLineDirective = (bytes: Uint8Array, at: number): boolean =>
  bytes[at + 1] === LETTER_L && bytes[at + 2] === LETTER_O && bytes[at + 3] === LETTER_C;

/** A `mov`, `push` or `pop` of nothing sensitive, of which a third of all statements consists. */
export function isPlainMove({ text, bytes, wordStart, wordEnd, end }: Scanner): boolean {
  const stem = MOVES.find((move) => text.startsWith(move, wordStart));
  if (stem === undefined || wordEnd - wordStart > stem.length + 1) return false;
  return bytes[wordStart + stem.length] !== LETTER_F && !namesSpecialRegister(bytes, wordEnd, end);
}

/** A segment, control or debug register is named, other than as a segment override. */
function namesSpecialRegister(bytes: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; at++) {
    if (bytes[at] !== PERCENT) continue;
    const pair = (((bytes[at + 1] as number) | 0x20) << 8) | (bytes[at + 2] as number) | 0x20;
    if (SPECIAL_PAIRS.has(pair) && bytes[at + 3] !== COLON) return true;
  }
  return false;
}
