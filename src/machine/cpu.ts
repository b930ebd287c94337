/**
 * The virtual CPU: the registers of an i386 processor as the wedge keeps them
 * while guest code does not run, and as the machine state stores them.
 *
 * On hosted it lies in the control page, where the burned sites' entries read
 * and write its hot words (IF, pending, selectors) without leaving 32-bit code.
 */

import { defineRecord, type RecordOf } from '../elf/record.ts';

export const SEGMENT = defineRecord(
  'segment',
  'A segment register with its descriptor cache (SDM vol. 3A 3.4.3).',
  [
    ['base', 'u32', 'bytes'],
    ['limit', 'u32', 'bytes, granularity already applied'],
    ['selector', 'u16', ''],
    ['attributes', 'u16', 'descriptor bits 40-47 and 52-55: type, S, DPL, P in 0-7; AVL, L, D/B, G in 12-15'],
  ],
);

export const TABLE_REGISTER = defineRecord('table_register', 'GDTR or IDTR.', [
  ['base', 'u32', 'guest-virtual'],
  ['limit', 'u32', 'bytes minus one'],
]);

export const CPU = defineRecord('cpu', 'The virtual CPU.', [
  ['gpr', ['u32', 8], 'eax ecx edx ebx esp ebp esi edi, in the order of their encoding'],
  ['eip', 'u32', ''],
  ['eflags', 'u32', 'what the processor itself holds: all but IF, IOPL and VM, which are virtual'],
  ['interrupt_flag', 'u32', 'the virtual IF, in its own place: 0 or 0x200'],
  ['system_flags', 'u32', 'virtual IOPL, and TF and AC of the guest kernel, in their places'],
  ['pending', 'u32', 'not 0: something waits for IF, go the slow way'],
  ['shadow', 'u32', 'not 0: interrupts are held for one instruction (sti, mov to ss)'],
  ['cpl', 'u32', 'current privilege level of the guest, 0 to 3'],
  ['halted', 'u32', 'not 0: in hlt'],
  ['segments', [SEGMENT, 6], 'es cs ss ds fs gs, in the order of their encoding'],
  ['ldtr', SEGMENT, ''],
  ['tr', SEGMENT, ''],
  ['gdtr', TABLE_REGISTER, ''],
  ['idtr', TABLE_REGISTER, ''],
  ['cr0', 'u32', ''],
  ['cr2', 'u32', ''],
  ['cr3', 'u32', ''],
  ['cr4', 'u32', ''],
  ['dr', ['u32', 8], ''],
  ['sysenter_cs', 'u32', 'MSR 174'],
  ['sysenter_esp', 'u32', 'MSR 175'],
  ['sysenter_eip', 'u32', 'MSR 176'],
  ['return_work', 'u32', 'not 0: the MMU has something to do before user code runs'],
  ['pat', 'u64', 'MSR 277'],
  ['misc_enable', 'u64', 'MSR 1a0'],
  ['tsc_offset', 'u64', 'added to the host counter by rdtsc'],
  ['tsc_aux', 'u64', 'MSR c0000103'],
  ['xcr0', 'u64', 'extended control register 0'],
  ['pdpte', ['u64', 4], "PAE paging's page-directory-pointer-table entries, loaded with CR3"],
]);

export type Cpu = RecordOf<typeof CPU>;
