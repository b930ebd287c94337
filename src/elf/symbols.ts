/** Symbols, and the way from an address to the function around it. */

import { viewOf } from './codec.ts';
import { type ElfImage, nameReader, type Section, sectionBytes } from './image.ts';
import { InputError } from './input-error.ts';
import { FORMATS, SHF, SHN, SHT, STB, STT } from './structs.ts';

export interface ElfSymbol {
  readonly name: string;
  readonly value: number;
  /** Bytes; 0 if the source did not say. */
  readonly size: number;
  /** STT. */
  readonly type: number;
  /** STB. */
  readonly binding: number;
  /** Section index, SHN for the reserved ones. */
  readonly section: number;
}

/** Symbols of the file's symbol table, or, when that was stripped, of its dynamic one. */
export function readSymbols(elf: ElfImage): ElfSymbol[] {
  const table =
    elf.sections.find((section) => section.sh_type === SHT.SYMTAB) ??
    elf.sections.find((section) => section.sh_type === SHT.DYNSYM);
  if (!table) return [];
  const strings = elf.sections[table.sh_link];
  if (strings?.sh_type !== SHT.STRTAB)
    throw new InputError(`section ${table.name} names no string table for its symbols`);
  return decodeSymbols(elf, table, sectionBytes(elf, strings));
}

function decodeSymbols(elf: ElfImage, table: Section, names: Uint8Array): ElfSymbol[] {
  const layout = FORMATS[elf.class].symbol;
  if (table.sh_entsize !== layout.size)
    throw new InputError(
      `section ${table.name} has symbols of ${table.sh_entsize} bytes, not ${layout.size}`,
    );
  const view = viewOf(sectionBytes(elf, table));
  const nameAt = nameReader(names, elf.bytes.length);
  const at = Object.fromEntries(layout.fields.map((field) => [field.name, field.offset])) as Record<
    string,
    number
  >;
  // Tens of thousands of symbols: fields are read in place rather than by readStruct.
  const word =
    elf.class === 32
      ? (offset: number) => view.getUint32(offset, true)
      : (offset: number) => Number(view.getBigInt64(offset, true));
  const symbols: ElfSymbol[] = [];
  for (let offset = layout.size; offset + layout.size <= view.byteLength; offset += layout.size) {
    const info = view.getUint8(offset + at.st_info!);
    const name = view.getUint32(offset + at.st_name!, true);
    symbols.push({
      name: name === 0 ? '' : nameAt(name, `symbol ${offset / layout.size}`),
      value: word(offset + at.st_value!),
      size: word(offset + at.st_size!),
      type: info & 0xf,
      binding: info >> 4,
      section: view.getUint16(offset + at.st_shndx!, true),
    });
  }
  return symbols;
}

export interface FunctionMap {
  /** Functions and labels in code, by address; one an address. */
  readonly functions: readonly ElfSymbol[];
  /** The last one that starts at or before the address, in the same section. */
  at(address: number): ElfSymbol | undefined;
}

/** Of several symbols at one address the most telling: a function before a label, global before local. */
const rank = (symbol: ElfSymbol): number =>
  (symbol.type === STT.FUNC ? 0 : 4) +
  (symbol.binding === STB.LOCAL ? 2 : symbol.binding === STB.WEAK ? 1 : 0);

/** Hand-written code often has labels without a type, so those count in code sections. */
export function functionMap(elf: ElfImage, symbols: readonly ElfSymbol[]): FunctionMap {
  const inCode = (symbol: ElfSymbol) =>
    symbol.section !== SHN.UNDEF && ((elf.sections[symbol.section]?.sh_flags ?? 0) & SHF.EXECINSTR) !== 0;
  const functions = symbols
    .filter(
      (symbol) => (symbol.type === STT.FUNC || symbol.type === STT.NOTYPE) && symbol.name && inCode(symbol),
    )
    .sort((a, b) => a.value - b.value || rank(a) - rank(b))
    .filter((symbol, index, all) => symbol.value !== all[index - 1]?.value);

  return {
    functions,
    at(address) {
      let low = 0;
      let high = functions.length;
      while (low < high) {
        const middle = (low + high) >>> 1;
        if (functions[middle]!.value <= address) low = middle + 1;
        else high = middle;
      }
      const found = functions[low - 1];
      const section = found && elf.sections[found.section];
      return section && address < section.sh_addr + section.sh_size ? found : undefined;
    },
  };
}
