/** The CPU as debuggers look for it in an i386 core file: Linux's NT_PRSTATUS, NT_FPREGSET and NT_PRXFPREG. */

import { viewOf } from '../elf/codec.ts';
import type { Note } from '../elf/notes.ts';
import { defineRecord, encodeRecord, zeroRecord } from '../elf/record.ts';
import type { MachineState } from './state.ts';

/** i386 Linux: struct elf_prstatus of <sys/procfs.h>. */
const PRSTATUS = defineRecord('elf_prstatus', 'Registers of a thread', [
  ['pr_info', ['u32', 3], 'signal number, code, errno'],
  ['pr_cursig', 'u16', ''],
  ['padding', 'u16', ''],
  ['pr_sigpend', 'u32', ''],
  ['pr_sighold', 'u32', ''],
  ['pr_pid', 'u32', ''],
  ['pr_ppid', 'u32', ''],
  ['pr_pgrp', 'u32', ''],
  ['pr_sid', 'u32', ''],
  ['pr_times', ['u32', 8], 'user, system, and those of the children'],
  ['pr_reg', ['u32', 17], 'ebx ecx edx esi edi ebp eax ds es fs gs orig_eax eip cs eflags esp ss'],
  ['pr_fpvalid', 'u32', ''],
]);

const NT_PRSTATUS = 1;
const NT_FPREGSET = 2;
const NT_PRXFPREG = 0x46e6_2b7f;

/** Bytes of an FXSAVE area, with which an XSAVE area begins too (SDM vol. 1, 10.5.1). */
const FXSAVE_SIZE = 512;

/** EFLAGS as `pushf` would show it. */
export const architecturalFlags = ({ eflags, interrupt_flag, system_flags }: MachineState['cpu']): number =>
  (eflags | interrupt_flag | system_flags) >>> 0;

function prstatus({ cpu }: MachineState): Uint8Array {
  const [eax, ecx, edx, ebx, esp, ebp, esi, edi] = cpu.gpr as readonly number[] as Registers;
  const [es, cs, ss, ds, fs, gs] = cpu.segments.map(({ selector }) => selector) as Selectors;
  const general = [ebx, ecx, edx, esi, edi, ebp, eax, ds, es, fs, gs];
  return encodeRecord(PRSTATUS, {
    ...zeroRecord(PRSTATUS),
    pr_pid: 1,
    pr_reg: [...general, 0xffff_ffff, cpu.eip, cs, architecturalFlags(cpu), esp, ss],
    pr_fpvalid: 1,
  });
}

type Registers = [number, number, number, number, number, number, number, number];
type Selectors = [number, number, number, number, number, number];

/** The tag that FSAVE has for a register: 0 valid, 1 zero, 2 special (SDM vol. 1, 8.1.7). */
function tagOf(view: DataView, offset: number): number {
  const exponent = view.getUint16(offset + 8, true) & 0x7fff;
  const high = view.getUint32(offset + 4, true);
  if (exponent === 0) return high === 0 && view.getUint32(offset, true) === 0 ? 1 : 2;
  return exponent !== 0x7fff && high >>> 31 === 1 ? 0 : 2;
}

/** FXSAVE's x87 part in FSAVE's layout (SDM vol. 1, figures 8-9 and 10-2). */
function fsave(fx: Uint8Array): Uint8Array {
  const view = viewOf(fx);
  const out = new Uint8Array(108);
  const target = viewOf(out);
  const status = view.getUint16(2, true);
  const top = (status >> 11) & 7;
  let tags = 0;
  for (let register = 0; register < 8; register++) {
    const inUse = (fx[4]! >> register) & 1;
    const tag = inUse ? tagOf(view, 32 + ((register - top) & 7) * 16) : 3;
    tags |= tag << (register * 2);
  }
  const words = [view.getUint16(0, true), status, tags].map((word) => 0xffff_0000 | word);
  const pointers = [
    view.getUint32(8, true),
    view.getUint16(12, true) | ((view.getUint16(6, true) & 0x7ff) << 16),
    view.getUint32(16, true),
    0xffff_0000 | view.getUint16(20, true),
  ];
  [...words, ...pointers].forEach((word, index) => {
    target.setUint32(index * 4, word, true);
  });
  for (let index = 0; index < 8; index++)
    out.set(fx.subarray(32 + index * 16, 42 + index * 16), 28 + index * 10);
  return out;
}

export function coreNotes(state: MachineState): Note[] {
  const fx = state.fpu.subarray(0, FXSAVE_SIZE);
  return [
    { owner: 'CORE', type: NT_PRSTATUS, bytes: prstatus(state) },
    { owner: 'CORE', type: NT_FPREGSET, bytes: fsave(fx) },
    { owner: 'LINUX', type: NT_PRXFPREG, bytes: fx },
  ];
}
