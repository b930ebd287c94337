/** Cores of domains made up for tests: a guest that stands still as its wedge would tell it, in the format of `xl dump-core`. */

import { viewOf, writeStruct } from '../../src/elf/codec.ts';
import { encodeNote } from '../../src/elf/notes.ts';
import { ELF64_EHDR, ELF64_SHDR, ELFDATA2LSB, EM, ET, SHT } from '../../src/elf/structs.ts';
import type { Machine } from '../../src/machine/state.ts';
import { encodeMachineState } from '../../src/machine/state-blob.ts';
import { BOOT_HEADER, BOOT_MAGIC, BOOT_VERSION } from '../../src/targets/boot-layout.ts';
import { offsetOf } from '../../src/x86/struct.ts';
import { allOf } from '../machine/state-fixture.ts';

const PAGE = 4096;
/** Pseudo-physical and machine frame of a page that is none. */
const NO_PAGE: readonly [bigint, bigint] = [2n ** 64n - 1n, 2n ** 64n - 1n];

/** What the wedge says in the domain's first page. */
export interface Head {
  readonly magic: number;
  readonly version: number;
  readonly told_frame: number;
  readonly told_pages: number;
}

export interface CoreParts {
  /** Contents by pseudo-physical frame; a core ends with pages that are none. */
  readonly pages: readonly Uint8Array[];
  /** Machine frame of each. */
  readonly frames: readonly number[];
  readonly magic: bigint;
  readonly pageSize: bigint;
  readonly version: bigint;
  /** Name of the section that says which page is which. */
  readonly table: string;
  /** Pages that the header speaks of and that are none. */
  readonly none: number;
}

const inPages = (bytes: Uint8Array): Uint8Array[] =>
  Array.from({ length: Math.ceil(bytes.length / PAGE) }, (_, index) => {
    const page = new Uint8Array(PAGE);
    page.set(bytes.subarray(index * PAGE, (index + 1) * PAGE));
    return page;
  });

const words = (values: readonly number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);

/**
 * The domain of a guest.
 * @param frame the machine frame of each pseudo-physical one
 */
export function domainOf(
  machine: Machine,
  frame: (page: number) => number,
  head: Partial<Head> = {},
): CoreParts {
  const state = inPages(encodeMachineState(machine));
  const ram = inPages(allOf(machine));
  // The first page, RAM, the state's pages, the list's, and the one that names those.
  const [ramAt, stateAt] = [1, 1 + ram.length];
  const listAt = stateAt + state.length;
  const range = (from: number, count: number): number[] =>
    Array.from({ length: count }, (_, index) => frame(from + index));
  const list = inPages(words([...range(stateAt, state.length), ...range(ramAt, ram.length)]));
  const rootAt = listAt + list.length;
  const first = new Uint8Array(PAGE);
  const fields: Head = {
    magic: BOOT_MAGIC,
    version: BOOT_VERSION,
    told_frame: frame(rootAt),
    told_pages: state.length,
    ...head,
  };
  for (const [name, value] of Object.entries(fields))
    viewOf(first).setUint32(offsetOf(BOOT_HEADER, name), value, true);
  const pages = [first, ...ram, ...state, ...list, ...inPages(words(range(listAt, list.length)))];
  return {
    pages,
    frames: range(0, pages.length),
    magic: 0xf00f_ebedn,
    pageSize: BigInt(PAGE),
    version: 1n,
    table: '.xen_p2m',
    none: 0,
  };
}

const quads = (values: readonly bigint[]): Uint8Array => new Uint8Array(BigUint64Array.from(values).buffer);

/** The file. */
export function coreOf({ pages, frames, none, magic, pageSize, version, table }: CoreParts): Uint8Array {
  const count = pages.length + none;
  const note = (type: number, bytes: Uint8Array) => encodeNote({ owner: 'Xen', type, bytes });
  const entries = [
    ...frames.map((frame, page): readonly [bigint, bigint] => [BigInt(page), BigInt(frame)]),
    ...Array.from({ length: none }, () => NO_PAGE),
  ];
  const names = ['', '.shstrtab', '.note.Xen', '.xen_prstatus', '.xen_pages', table];
  const nameOffset = (index: number): number => names.slice(0, index).join('\0').length + (index > 0 ? 1 : 0);
  const contents: Uint8Array[] = [
    new Uint8Array(0),
    Buffer.from(`${names.join('\0')}\0`),
    Buffer.concat([
      note(0x200_0000, new Uint8Array(0)),
      note(0x200_0001, quads([magic, 1n, BigInt(count), pageSize])),
      note(0x200_0002, new Uint8Array(1280)),
      note(0x200_0003, quads([version])),
    ]),
    new Uint8Array(5168),
    Buffer.concat([...pages, new Uint8Array(none * PAGE)]),
    quads(entries.flat()),
  ];
  const start = ELF64_EHDR.size + names.length * ELF64_SHDR.size;
  const offsets = contents.map((_, index) =>
    contents.slice(0, index).reduce((sum, { length }) => sum + length, start),
  );
  const out = new Uint8Array(offsets.at(-1)! + contents.at(-1)!.length);
  const view = viewOf(out);
  writeStruct(ELF64_EHDR, view, 0, {
    e_ident: Uint8Array.of(0x7f, 0x45, 0x4c, 0x46, 2, ELFDATA2LSB, 1, ...new Uint8Array(9)),
    e_type: ET.CORE,
    e_machine: EM.X86_64,
    e_version: 1,
    e_entry: 0,
    e_phoff: 0,
    e_shoff: ELF64_EHDR.size,
    e_flags: 0,
    e_ehsize: ELF64_EHDR.size,
    e_phentsize: 56,
    e_phnum: 0,
    e_shentsize: ELF64_SHDR.size,
    e_shnum: names.length,
    e_shstrndx: 1,
  });
  const types = [SHT.NULL, SHT.STRTAB, SHT.NOTE, SHT.PROGBITS, SHT.PROGBITS, SHT.PROGBITS];
  contents.forEach((bytes, index) => {
    out.set(bytes, offsets[index]!);
    writeStruct(ELF64_SHDR, view, ELF64_EHDR.size + index * ELF64_SHDR.size, {
      sh_name: nameOffset(index),
      sh_type: types[index],
      sh_flags: 0,
      sh_addr: 0,
      sh_offset: index === 0 ? 0 : offsets[index],
      sh_size: bytes.length,
      sh_link: 0,
      sh_info: 0,
      sh_addralign: 0,
      sh_entsize: 0,
    });
  });
  return out;
}

/** Machine frames that are all different and in no order: a permutation of some 2 ** 20, from a seed. */
export const scrambled =
  (seed: number) =>
  (page: number): number =>
    (Math.imul(page, 0x2545) + seed) & 0xf_ffff;
