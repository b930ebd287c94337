/**
 * Where a kernel that was never annotated tells of its modules: at the start of
 * the functions at whose entry an annotated one has announcement sites
 * (guests/linux/domains.json). The first byte is no place for a trap: the kernel
 * patches the call of its tracer there. The first push or return is, before
 * which no argument has moved.
 */

import { Decoder, DecoderOptions, Mnemonic } from 'iced-x86';
import { type ElfImage, sectionAt, sectionBytes } from '../elf/image.ts';
import { type FileOffset, fileOffset, type GuestVirtual, guestVirtual } from '../x86/address.ts';
import type { Announcement } from '../x86/site-kinds.ts';

export interface AnnouncementPlace {
  readonly kind: Announcement;
  readonly address: GuestVirtual;
  readonly offset: FileOffset;
  /** The push or return. */
  readonly original: Uint8Array;
}

const FUNCTIONS: readonly (readonly [name: string, kind: Announcement])[] = [
  ['module_finalize', 'module_load'],
  ['module_arch_freeing_init', 'module_init_freed'],
  ['module_arch_cleanup', 'module_unload'],
];

/** What may stand in front: the tracer's call, or what is left of it, and a landing mark. */
const HARMLESS: ReadonlySet<Mnemonic> = new Set([Mnemonic.Call, Mnemonic.Nop, Mnemonic.Endbr32]);
const MOST = 4;
/** PUSH r32, whatever the register; RET. One byte both. */
const isPlace = (byte: number): boolean => (byte & 0xf8) === 0x50 || byte === 0xc3;

function placeIn(
  elf: ElfImage,
  address: number,
): { address: GuestVirtual; offset: FileOffset; original: Uint8Array } | undefined {
  const section = sectionAt(elf, address, 1);
  if (!section) return undefined;
  const bytes = sectionBytes(elf, section);
  const decoder = new Decoder(32, bytes, DecoderOptions.None);
  try {
    decoder.position = address - section.sh_addr;
    for (let count = 0; count < MOST && decoder.canDecode; count++) {
      const at = decoder.position;
      if (isPlace(bytes[at]!))
        return {
          address: guestVirtual(section.sh_addr + at),
          offset: fileOffset(section.sh_offset + at),
          original: bytes.slice(at, at + 1),
        };
      const instruction = decoder.decode();
      const { mnemonic } = instruction;
      instruction.free();
      if (!HARMLESS.has(mnemonic)) return undefined;
    }
    return undefined;
  } finally {
    decoder.free();
  }
}

export interface Announcements {
  readonly places: readonly AnnouncementPlace[];
  /** Functions that have no place for one. */
  readonly missed: readonly string[];
}

/** @param functions the kernel's, by name */
export function findAnnouncements(elf: ElfImage, functions: ReadonlyMap<string, number>): Announcements {
  const places: AnnouncementPlace[] = [];
  const missed: string[] = [];
  for (const [name, kind] of FUNCTIONS) {
    const address = functions.get(name);
    if (address === undefined) continue;
    const place = placeIn(elf, address);
    if (place) places.push({ kind, ...place });
    else missed.push(name);
  }
  return { places, missed };
}
