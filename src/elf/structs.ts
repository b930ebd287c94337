/**
 * The on-disk structures of ELF (System V gABI chapters 4 and 5) in both
 * classes. Field names are the standard's.
 */

import { defineStruct, type FieldSpec, type StructLayout } from '../x86/struct.ts';

const IDENT: FieldSpec = ['e_ident', ['u8', 16], 'magic, class, data, version'];

export const ELF32_EHDR = defineStruct('elf32_ehdr', 'File header', [
  IDENT,
  ['e_type', 'u16', ''],
  ['e_machine', 'u16', ''],
  ['e_version', 'u32', ''],
  ['e_entry', 'u32', ''],
  ['e_phoff', 'u32', ''],
  ['e_shoff', 'u32', ''],
  ['e_flags', 'u32', ''],
  ['e_ehsize', 'u16', ''],
  ['e_phentsize', 'u16', ''],
  ['e_phnum', 'u16', ''],
  ['e_shentsize', 'u16', ''],
  ['e_shnum', 'u16', ''],
  ['e_shstrndx', 'u16', ''],
]);

export const ELF64_EHDR = defineStruct('elf64_ehdr', 'File header', [
  IDENT,
  ['e_type', 'u16', ''],
  ['e_machine', 'u16', ''],
  ['e_version', 'u32', ''],
  ['e_entry', 'u64', ''],
  ['e_phoff', 'u64', ''],
  ['e_shoff', 'u64', ''],
  ['e_flags', 'u32', ''],
  ['e_ehsize', 'u16', ''],
  ['e_phentsize', 'u16', ''],
  ['e_phnum', 'u16', ''],
  ['e_shentsize', 'u16', ''],
  ['e_shnum', 'u16', ''],
  ['e_shstrndx', 'u16', ''],
]);

export const ELF32_PHDR = defineStruct('elf32_phdr', 'Program header', [
  ['p_type', 'u32', ''],
  ['p_offset', 'u32', ''],
  ['p_vaddr', 'u32', ''],
  ['p_paddr', 'u32', ''],
  ['p_filesz', 'u32', ''],
  ['p_memsz', 'u32', ''],
  ['p_flags', 'u32', ''],
  ['p_align', 'u32', ''],
]);

export const ELF64_PHDR = defineStruct('elf64_phdr', 'Program header', [
  ['p_type', 'u32', ''],
  ['p_flags', 'u32', ''],
  ['p_offset', 'u64', ''],
  ['p_vaddr', 'u64', ''],
  ['p_paddr', 'u64', ''],
  ['p_filesz', 'u64', ''],
  ['p_memsz', 'u64', ''],
  ['p_align', 'u64', ''],
]);

export const ELF32_SHDR = defineStruct('elf32_shdr', 'Section header', [
  ['sh_name', 'u32', ''],
  ['sh_type', 'u32', ''],
  ['sh_flags', 'u32', ''],
  ['sh_addr', 'u32', ''],
  ['sh_offset', 'u32', ''],
  ['sh_size', 'u32', ''],
  ['sh_link', 'u32', ''],
  ['sh_info', 'u32', ''],
  ['sh_addralign', 'u32', ''],
  ['sh_entsize', 'u32', ''],
]);

export const ELF64_SHDR = defineStruct('elf64_shdr', 'Section header', [
  ['sh_name', 'u32', ''],
  ['sh_type', 'u32', ''],
  ['sh_flags', 'u64', ''],
  ['sh_addr', 'u64', ''],
  ['sh_offset', 'u64', ''],
  ['sh_size', 'u64', ''],
  ['sh_link', 'u32', ''],
  ['sh_info', 'u32', ''],
  ['sh_addralign', 'u64', ''],
  ['sh_entsize', 'u64', ''],
]);

export const ELF32_SYM = defineStruct('elf32_sym', 'Symbol', [
  ['st_name', 'u32', ''],
  ['st_value', 'u32', ''],
  ['st_size', 'u32', ''],
  ['st_info', 'u8', 'binding << 4 | type'],
  ['st_other', 'u8', ''],
  ['st_shndx', 'u16', ''],
]);

export const ELF64_SYM = defineStruct('elf64_sym', 'Symbol', [
  ['st_name', 'u32', ''],
  ['st_info', 'u8', 'binding << 4 | type'],
  ['st_other', 'u8', ''],
  ['st_shndx', 'u16', ''],
  ['st_value', 'u64', ''],
  ['st_size', 'u64', ''],
]);

/** Note header; the name and the descriptor follow, each padded to 4 bytes. The same in both classes. */
export const ELF_NHDR = defineStruct('elf_nhdr', 'Note header', [
  ['n_namesz', 'u32', ''],
  ['n_descsz', 'u32', ''],
  ['n_type', 'u32', ''],
]);

export interface Format {
  readonly header: StructLayout;
  readonly segment: StructLayout;
  readonly section: StructLayout;
  readonly symbol: StructLayout;
}

export const FORMATS = {
  32: { header: ELF32_EHDR, segment: ELF32_PHDR, section: ELF32_SHDR, symbol: ELF32_SYM },
  64: { header: ELF64_EHDR, segment: ELF64_PHDR, section: ELF64_SHDR, symbol: ELF64_SYM },
} as const satisfies Record<number, Format>;

export type ElfClass = keyof typeof FORMATS;

// Values of fields, by the standard's names.
export const ELFDATA2LSB = 1;
export const ET = { REL: 1, EXEC: 2, DYN: 3, CORE: 4 } as const;
export const EM = { I386: 3, X86_64: 62 } as const;
export const PT = { LOAD: 1, NOTE: 4 } as const;
export const SHT = {
  NULL: 0,
  PROGBITS: 1,
  SYMTAB: 2,
  STRTAB: 3,
  RELA: 4,
  NOTE: 7,
  NOBITS: 8,
  REL: 9,
  DYNSYM: 11,
} as const;
export const SHF = { WRITE: 1, ALLOC: 2, EXECINSTR: 4 } as const;
export const STT = { NOTYPE: 0, OBJECT: 1, FUNC: 2, SECTION: 3, FILE: 4 } as const;
export const STB = { LOCAL: 0, GLOBAL: 1, WEAK: 2 } as const;
export const SHN = { UNDEF: 0, LORESERVE: 0xff00, ABS: 0xfff1, XINDEX: 0xffff } as const;
export const PN_XNUM = 0xffff;
