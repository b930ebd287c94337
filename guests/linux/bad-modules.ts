/** Modules that lie about their sites, or about where these are copied to: what must not be loaded. Pure: bytes in, bytes out. */

import { findSection, parseElf, sectionBytes } from '../../src/elf/image.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { SITE_RECORD_SIZE, SITE_SECTION } from '../../src/x86/site-record.ts';

/** Offsets in a record (src/x86/site-record.ts); the first is the relocation's addend in a relocatable file. */
const ADDRESS = 0;
const LENGTH = 4;
const DOMAIN = 6;
const VERSION = 10;

type Spoil = (records: DataView) => void;

/** By name. */
const SPOILS: Readonly<Record<string, Spoil>> = {
  outside: (records) => records.setUint32(ADDRESS, records.getUint32(ADDRESS, true) + 0x10_0000, true),
  inside: (records) => records.setUint32(ADDRESS, records.getUint32(ADDRESS, true) + 1, true),
  short: (records) => records.setUint8(LENGTH, 3),
  long: (records) => records.setUint8(LENGTH, 15),
  domain: (records) => records.setUint8(DOMAIN, 77),
  version: (records) => records.setUint16(VERSION, 9, true),
  twice: (records) => {
    for (let at = 0; at < SITE_RECORD_SIZE; at++)
      records.setUint8(SITE_RECORD_SIZE + at, records.getUint8(at));
  },
};

/** One without sites, whose first alternative replaces something outside of it. @throws InputError if it has none */
export function badAlternatives(module: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(module);
  const elf = parseElf(bytes);
  const section = findSection(elf, '.altinstructions');
  if (!section) throw new InputError('a module with alternatives is needed');
  const table = sectionBytes(elf, section);
  new DataView(table.buffer, table.byteOffset).setUint32(0, 0x10_0000, true);
  return bytes;
}

/** What `module` (ELF, relocatable) could be made into. @throws InputError if it has not two sites */
export function badModules(module: Uint8Array): ReadonlyMap<string, Uint8Array> {
  return new Map(
    Object.entries(SPOILS).map(([name, spoil]) => {
      const bytes = new Uint8Array(module);
      const elf = parseElf(bytes);
      const section = findSection(elf, SITE_SECTION);
      if (!section || section.sh_size < 2 * SITE_RECORD_SIZE)
        throw new InputError('a module with two sites is needed');
      const records = sectionBytes(elf, section);
      spoil(new DataView(records.buffer, records.byteOffset, records.byteLength));
      return [name, bytes];
    }),
  );
}
