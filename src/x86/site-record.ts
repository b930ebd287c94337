/**
 * The site record: what the annotator leaves behind for each site, in one
 * section of every object file, vmlinux, the vDSO and modules alike.
 *
 *   offset size
 *    0     4   address: signed distance from this field to the first byte of the slot
 *    4     1   length of the slot in bytes, prefixes or leading NOPs included
 *    5     1   widening: number of bytes in front of the original instruction
 *    6     1   domain (DOMAINS)
 *    7     1   kind (SITE_KINDS)
 *    8     2   flags (SITE_FLAGS)
 *   10     2   version of this format
 *
 * The distance is relative so that the linker resolves it completely: the
 * vDSO, which must not carry dynamic relocations, and modules, whose loader
 * knows R_386_PC32, take the same record as vmlinux. The original bytes are
 * those of the slot itself. All fields are little-endian.
 */

export const SITE_SECTION = '.previrt.sites';
export const SITE_RECORD_VERSION = 1;
export const SITE_RECORD_SIZE = 12;

export const SITE_FLAGS = {
  /** The slot is widened by NOPs in front of the instruction, so an instruction boundary lies inside it. */
  interiorBoundary: 1 << 0,
  /** Arithmetic flags (CF PF AF ZF SF OF) may be read after the site before they are written. */
  flagsLive: 1 << 1,
  /**
   * The code runs, or is copied, away from the address it was linked at
   * (alternatives, boot code before paging, the vDSO): the slot has at least 6
   * bytes, and only absolute forms may be substituted.
   */
  absolute: 1 << 2,
  /** 64-bit code. */
  long: 1 << 3,
} as const;

/** Bytes of a near relative call or jump: the least a slot holds. */
export const SLOT_LENGTH = 5;
/** Bytes of a near indirect absolute call or jump (ff 15 / ff 25 disp32): the least of an `absolute` slot. */
export const SLOT_LENGTH_ABSOLUTE = 6;
/** The longest instruction the architecture allows (SDM vol. 2A 2.3.11). */
export const MAX_INSTRUCTION_LENGTH = 15;
