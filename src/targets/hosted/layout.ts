/**
 * What the launcher (TypeScript) and the hosted wedge (C) agree on: the
 * control page, and the boot file in which the launcher hands over a prepared
 * machine. Generated into the wedge's headers by headers.ts.
 */

import { CPU, SEGMENT } from '../../machine/cpu.ts';
import { defineStruct } from '../../x86/struct.ts';

/** A descriptor that was checked, to be compared with what the table holds by now. */
export const KNOWN_DESCRIPTOR = defineStruct(
  'known_descriptor',
  'A descriptor as it was when it was last checked.',
  [
    ['address', 'u32', 'guest-virtual; 0: none'],
    ['low', 'u32', ''],
    ['high', 'u32', ''],
  ],
);

export const CONTROL = defineStruct(
  'control',
  'The control page: the virtual CPU and what the entry code needs.',
  [
    ['cpu', CPU, ''],
    ['entry', 'u32', 'index of the entry that was called'],
    [
      'flat_selector',
      'u32',
      'what FS was last loaded with when that was a flat segment of the GDT; ffffffff: none',
    ],
    ['flat_address', 'u32', 'guest-virtual address of its descriptor'],
    ['flat_not_low', 'u32', 'complement of the low word of its descriptor'],
    ['flat_not_high', 'u32', 'complement of the high word'],
    ['flat_attributes', 'u32', 'selector, and attributes in the upper half, as struct segment has them'],
    ['call_gate', KNOWN_DESCRIPTOR, 'interrupt gate 80, if user code may take the short way through it'],
    ['call_offset', 'u32', 'its handler'],
    ['call_code', SEGMENT, "the handler's CS"],
    ['call_stack', SEGMENT, "the handler's SS"],
    ['call_tss', 'u32', 'guest-virtual address of ESP0 in the TSS'],
    ['user_code', KNOWN_DESCRIPTOR, 'what user code last returned to; the short way back needs the same'],
    ['user_code_segment', SEGMENT, ''],
    ['user_data', KNOWN_DESCRIPTOR, ''],
    ['user_data_segment', SEGMENT, ''],
    ['user_tls', KNOWN_DESCRIPTOR, "what the real GS's base comes from; address 0: GS is null"],
    ['user_tls_selector', 'u32', ''],
    ['return_eip', 'u32', 'where the short way back jumps to'],
    ['real_selectors', ['u16', 6], 'what the real segment registers hold, in the order of their encoding'],
    ['reserved', 'u32', ''],
    ['wedge_stack', 'u64', 'top of the stack of the 64-bit side'],
    ['wedge_enter', 'u64', 'where the 64-bit side begins'],
  ],
);

export const BOOT_MAGIC = 0x54425650; // "PVBT"
export const BOOT_VERSION = 1;
/** The descriptors that the launcher passes to the wedge's process. */
export const BOOT_FD = 3;
export const DISK_FD = 4;

export const BOOT_HEADER = defineStruct('boot_header', 'Head of the boot file.', [
  ['magic', 'u32', ''],
  ['version', 'u32', ''],
  ['ram_size', 'u64', 'bytes'],
  ['entry', 'u32', 'guest-physical address of the first instruction, paging off'],
  ['eax', 'u32', ''],
  ['ebx', 'u32', ''],
  ['esi', 'u32', ''],
  ['chunk_count', 'u32', ''],
  ['site_count', 'u32', ''],
  ['link_offset', 'u32', 'guest-virtual minus guest-physical address of the kernel, as linked'],
  ['has_disk', 'u32', 'not 0: DISK_FD is open'],
  ['chunks_offset', 'u64', 'in the file'],
  ['sites_offset', 'u64', 'in the file: patch table entries, sorted by address'],
  ['disk_size', 'u64', 'bytes'],
  ['panic_pattern', ['u8', 64], 'console text that means a panic, zero-terminated; empty: none'],
  ['escape', 'u32', 'not 0: Ctrl-A x on the console ends the run'],
  ['reserved', 'u32', ''],
]);

export const BOOT_CHUNK = defineStruct('boot_chunk', 'Bytes that belong into RAM before the guest starts.', [
  ['address', 'u64', 'guest-physical'],
  ['offset', 'u64', 'in the file'],
  ['length', 'u64', 'bytes'],
]);
