/** Puts function names behind the code addresses of a crash report. Pure. */

import type { ElfImage } from '../elf/image.ts';
import { functionMap, readSymbols } from '../elf/symbols.ts';
import type { CountsCollector } from './counts.ts';

/** "eip c0123456" and "at c0123456" are how the wedge writes an address of code. */
const CODE_ADDRESS = /\b(eip|at) ([0-9a-f]{8})\b/g;

/** What becomes of the wedge's messages: counts are taken out, addresses get names. */
export function messageFilter(
  elf: ElfImage | undefined,
  told: CountsCollector | undefined,
): (text: string) => string {
  const symbolize = elf ? symbolizer(elf) : (text: string) => text;
  return (text) => symbolize(told?.filter(text) ?? text);
}

export function symbolizer(elf: ElfImage): (text: string) => string {
  let functions: ReturnType<typeof functionMap> | undefined;
  return (text) =>
    text.replace(CODE_ADDRESS, (match, word: string, digits: string) => {
      functions ??= functionMap(elf, readSymbols(elf));
      const name = functions.at(Number.parseInt(digits, 16))?.name;
      return name === undefined ? match : `${word} ${digits} <${name}>`;
    });
}
