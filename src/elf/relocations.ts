/** Relocations of 32-bit object files (System V ABI, Intel386 supplement, "Relocation"): the addend is in the field. */

import { viewOf } from './codec.ts';
import { type ElfImage, type Section, sectionBytes } from './image.ts';
import { InputError } from './input-error.ts';
import { SHT } from './structs.ts';

export const R_386 = { ABS32: 1, PC32: 2 } as const;

export interface Relocation {
  /** Of the relocation itself, in the file. */
  readonly fileOffset: number;
  /** Of the field, in the section that it is for. */
  readonly offset: number;
  /** R_386. */
  readonly type: number;
  /** Number in the symbol table. */
  readonly symbol: number;
}

const SIZE = 8;

/** Those for section `target`, from all tables. @throws InputError if a table is of another form */
export function relocationsOf(elf: ElfImage, target: Section): Relocation[] {
  return elf.sections
    .filter(
      ({ sh_type, sh_info }) => (sh_type === SHT.REL || sh_type === SHT.RELA) && sh_info === target.index,
    )
    .flatMap((table) => {
      if (elf.class !== 32 || table.sh_type !== SHT.REL || table.sh_size % SIZE !== 0)
        throw new InputError(`section ${table.name} does not hold relocations for i386`);
      const view = viewOf(sectionBytes(elf, table));
      return Array.from({ length: table.sh_size / SIZE }, (_, index): Relocation => {
        const info = view.getUint32(index * SIZE + 4, true);
        return {
          fileOffset: table.sh_offset + index * SIZE,
          offset: view.getUint32(index * SIZE, true),
          type: info & 0xff,
          symbol: info >>> 8,
        };
      });
    });
}
