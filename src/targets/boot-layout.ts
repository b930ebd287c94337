/**
 * The boot file, in which the launcher (TypeScript) hands a prepared machine
 * over to the hosted wedge (C). Generated into the wedge's headers by headers.ts.
 */

import { FEATURE_WORDS } from '../machine/state.ts';
import { defineStruct } from '../x86/struct.ts';

export const BOOT_MAGIC = 0x54425650; // "PVBT"
export const BOOT_VERSION = 6;
/** What the wedge counts (`counts` in the header): by domain, and also where it was trapped. */
export const COUNT = { DOMAINS: 1, PLACES: 2 } as const;
/** How a message begins that tells a count. */
export const COUNT_MARK = 'previrt-count';
/**
 * Where what belongs into RAM comes from (`ram_comes`): as chunks of this file, as
 * chunks of RAM_FD, or it is written to where RAM lies, from outside, and then the
 * state: hosted, in this file, which is written anew; on Xen, where the wedge says.
 */
export const RAM_COMES = { HERE: 0, APART: 1, AWAITED: 2 } as const;
/** Sites that a wedge on Xen has room for when it awaits a guest: several kernels' and modules'. */
export const AWAITED_SITES = 24_576;
/** The descriptors that the launcher passes to the wedge's process. */
export const BOOT_FD = 3;
export const DISK_FD = 4;
/** What RAM is taken from, if not from the boot file. */
export const RAM_FD = 5;

export const BOOT_HEADER = defineStruct('boot_header', 'Head of the boot file.', [
  ['magic', 'u32', ''],
  ['version', 'u32', ''],
  ['ram_size', 'u64', 'bytes'],
  ['entry', 'u32', 'guest-physical address of the first instruction, paging off'],
  ['eax', 'u32', ''],
  ['ebx', 'u32', ''],
  ['esi', 'u32', ''],
  ['esp', 'u32', ''],
  ['chunk_count', 'u32', ''],
  ['site_count', 'u32', "of the kernel's, and behind them of its modules'; awaited: how many there may be"],
  ['link_offset', 'u32', 'guest-virtual minus guest-physical address of the kernel, as linked'],
  ['domains', 'u32', 'bit 1 << DOMAIN_* for each that modules are to be burned for'],
  ['escape', 'u32', 'not 0: Ctrl-A x on the console ends the run'],
  ['has_disk', 'u32', 'not 0: DISK_FD is open'],
  ['commands', 'u32', 'not 0: CONTROL_BYTE in the console input begins a command'],
  ['chunks_offset', 'u64', 'in the file'],
  ['sites_offset', 'u64', 'in the file: patch table entries, sorted by address'],
  ['disk_size', 'u64', 'bytes'],
  ['state_offset', 'u64', 'in the file: machine_state of a guest that goes on; 0: one that starts'],
  [
    'features',
    ['u8', 4 * FEATURE_WORDS.length],
    'FEATURE_WORDS, 4 bytes each: at most these does the guest know of',
  ],
  ['counts', 'u32', 'COUNT_*'],
  ['ram_comes', 'u32', 'RAM_*'],
  ['told_frame', 'u32', 'Xen: 0; of a guest that stands still, the machine frame with the frames of a list'],
  ['told_pages', 'u32', 'Xen: pages of state, with which that list begins'],
  ['panic_pattern', ['u8', 64], 'console text that means a panic, zero-terminated; empty: none'],
]);

export const BOOT_CHUNK = defineStruct('boot_chunk', 'Bytes that belong into RAM before the guest starts.', [
  ['address', 'u64', 'guest-physical'],
  ['offset', 'u64', 'in the file'],
  ['length', 'u64', 'bytes'],
]);
