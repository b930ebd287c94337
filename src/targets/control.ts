/** The control page: what burned sites' entries and the wedge's C code share, on every target. */

import { CPU, SEGMENT } from '../machine/cpu.ts';
import { defineStruct } from '../x86/struct.ts';

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

/** Linux has three TLS descriptors, one that names the processor, and its code and data segments. */
export const WATCHED = 6;

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
    ['gs', KNOWN_DESCRIPTOR, 'what the kernel loaded GS from last'],
    ['gs_segment', SEGMENT, 'and what came of it; attributes 0: nothing is known'],
    ['call_gate', KNOWN_DESCRIPTOR, 'interrupt gate 80, if user code may take the short way through it'],
    ['call_offset', 'u32', 'its handler'],
    ['call_code', SEGMENT, "the handler's CS"],
    ['call_stack', SEGMENT, "the handler's SS"],
    ['call_tss', 'u32', 'guest-virtual address of ESP0 in the TSS'],
    ['user_code', KNOWN_DESCRIPTOR, 'what user code last returned to; the short way back needs the same'],
    ['user_code_segment', SEGMENT, ''],
    ['user_data', KNOWN_DESCRIPTOR, ''],
    ['user_data_segment', SEGMENT, ''],
    [
      'user_eip',
      'u32',
      'of the system call on its short way in, where ESP and EFLAGS are not kept otherwise',
    ],
    ['user_esp', 'u32', ''],
    ['user_flags', 'u32', ''],
    ['user_tls', KNOWN_DESCRIPTOR, "what the real GS's base comes from; address 0: GS is null"],
    ['user_tls_selector', 'u32', ''],
    [
      'watched',
      [KNOWN_DESCRIPTOR, WATCHED],
      'Xen: what else user code may load that the guest changes by plain stores',
    ],
    ['return_eip', 'u32', 'where the short way back jumps to'],
    ['real_selectors', ['u16', 6], 'what the real segment registers hold, in the order of their encoding'],
    ['kept_eax', 'u32', 'registers of the short way back, which it needs itself'],
    ['kept_ecx', 'u32', ''],
    ['kept_esp', 'u32', ''],
    ['reserved', 'u32', ''],
    ['wedge_stack', 'u64', 'top of the stack of the 64-bit side'],
    ['wedge_enter', 'u64', 'where the 64-bit side begins'],
  ],
);
