/**
 * Alternatives: instructions that a Linux kernel copies over others of its own
 * text at boot, by what the processor can do (arch/x86/include/asm/alternative.h).
 */

import { viewOf } from '../elf/codec.ts';
import { codeSections, type ElfImage, findSection, type Section, sectionBytes } from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';

export interface Alternative {
  /** What is replaced. */
  readonly target: number;
  readonly targetLength: number;
  /** Where the replacement is copied from. */
  readonly replacement: number;
  readonly replacementLength: number;
}

/** struct alt_instr in the versions there were: its size, and where the two lengths stand; both offsets come first. */
export const ALTERNATIVE_LAYOUTS = [
  { size: 12, target: 10, replacement: 11 }, // before 4.1, and from 5.13
  { size: 13, target: 10, replacement: 11 }, // with the length of padding
  { size: 14, target: 12, replacement: 13 }, // from 6.3
] as const;

const TABLE = '.altinstructions';
const REPLACEMENTS = '.altinstr_replacement';

const holds = ({ sh_addr, sh_size }: Section, address: number, length: number): boolean =>
  address >= sh_addr && address + length <= sh_addr + sh_size;

/**
 * The alternatives of a kernel; none if it has no table of them.
 * @throws InputError if the table has no known form
 */
export function readAlternatives(elf: ElfImage): Alternative[] {
  const table = findSection(elf, TABLE);
  if (!table) return [];
  const bytes = sectionBytes(elf, table);
  if (bytes.length === 0) return [];
  const replacements = findSection(elf, REPLACEMENTS);
  const code = codeSections(elf);
  const view = viewOf(bytes);
  for (const layout of ALTERNATIVE_LAYOUTS) {
    if (bytes.length % layout.size !== 0) continue;
    const found = Array.from({ length: bytes.length / layout.size }, (_, index): Alternative => {
      const at = index * layout.size;
      return {
        target: table.sh_addr + at + view.getInt32(at, true),
        targetLength: view.getUint8(at + layout.target),
        replacement: table.sh_addr + at + 4 + view.getInt32(at + 4, true),
        replacementLength: view.getUint8(at + layout.replacement),
      };
    });
    const good = found.every(
      ({ target, targetLength, replacement, replacementLength }) =>
        code.some((section) => holds(section, target, targetLength)) &&
        replacementLength <= targetLength &&
        (replacementLength === 0 || (replacements && holds(replacements, replacement, replacementLength))),
    );
    if (good) return found;
  }
  throw new InputError(
    `section ${TABLE} has no known form`,
    'the kernel is older or newer than this previrt knows',
  );
}
