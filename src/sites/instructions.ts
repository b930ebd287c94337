/**
 * Which decoded instructions are sensitive, and as what kind of site.
 *
 * The decoder's own "privileged" mark is not enough: popf, iret, smsw or a
 * segment load never trap in user mode and just do something else there.
 */

import { Code, type Instruction, OpKind, Register } from 'iced-x86';
import { SITE_KINDS, type SiteKindName } from '../x86/site-kinds.ts';

/**
 * The decoder's names for each kind: a whole name (`Mov_Sreg_rm16`) or all
 * that have this word in front of the first underscore (`Lgdt`).
 */
const CODES: Partial<Record<SiteKindName, string>> = {
  cli: 'Cli',
  sti: 'Sti',
  pushf: 'Pushfw Pushfd Pushfq',
  popf: 'Popfw Popfd Popfq',
  iret: 'Iretw Iretd Iretq',
  hlt: 'Hlt',
  mov_from_cr: 'Mov_r32_cr Mov_r64_cr',
  mov_to_cr: 'Mov_cr_r32 Mov_cr_r64',
  mov_from_dr: 'Mov_r32_dr Mov_r64_dr',
  mov_to_dr: 'Mov_dr_r32 Mov_dr_r64',
  clts: 'Clts',
  lmsw: 'Lmsw',
  smsw: 'Smsw',
  lgdt: 'Lgdt',
  lidt: 'Lidt',
  lldt: 'Lldt',
  ltr: 'Ltr',
  sgdt: 'Sgdt',
  sidt: 'Sidt',
  sldt: 'Sldt',
  str: 'Str',
  invlpg: 'Invlpg',
  invd: 'Invd',
  wbinvd: 'Wbinvd Wbnoinvd',
  invpcid: 'Invpcid',
  rdmsr: 'Rdmsr',
  wrmsr: 'Wrmsr',
  rdtsc: 'Rdtsc',
  rdtscp: 'Rdtscp',
  rdpmc: 'Rdpmc',
  cpuid: 'Cpuid',
  xgetbv: 'Xgetbv',
  xsetbv: 'Xsetbv',
  monitor: 'Monitorw Monitord Monitorq',
  mwait: 'Mwait',
  mov_to_seg: 'Mov_Sreg_rm16 Mov_Sreg_r32m16 Mov_Sreg_r64m16',
  mov_from_seg: 'Mov_rm16_Sreg Mov_r32m16_Sreg Mov_r64m16_Sreg',
  push_seg:
    'Pushw_ES Pushd_ES Pushw_CS Pushd_CS Pushw_SS Pushd_SS Pushw_DS Pushd_DS Pushw_FS Pushd_FS Pushq_FS Pushw_GS Pushd_GS Pushq_GS',
  pop_seg: 'Popw_ES Popd_ES Popw_SS Popd_SS Popw_DS Popd_DS Popw_FS Popd_FS Popq_FS Popw_GS Popd_GS Popq_GS',
  load_far_pointer: 'Lds Les Lfs Lgs Lss',
  far_call: 'Call_ptr1616 Call_ptr1632 Call_m1616 Call_m1632 Call_m1664',
  far_jmp: 'Jmp_ptr1616 Jmp_ptr1632 Jmp_m1616 Jmp_m1632 Jmp_m1664',
  far_ret: 'Retfw Retfd Retfq',
  sysenter: 'Sysenter',
  sysexit: 'Sysexitd Sysexitq',
  syscall: 'Syscall',
  sysret: 'Sysretd Sysretq',
  swapgs: 'Swapgs',
  int: 'Int_imm8',
  verr: 'Verr',
  verw: 'Verw',
  lar: 'Lar',
  lsl: 'Lsl',
  arpl: 'Arpl',
  clac: 'Clac',
  stac: 'Stac',
  rdfsbase: 'Rdfsbase Rdgsbase',
  wrfsbase: 'Wrfsbase Wrgsbase',
  rsm: 'Rsm',
  in: 'In',
  out: 'Out',
  ins: 'Insb Insw Insd',
  outs: 'Outsb Outsw Outsd',
};

/** For each Code of the decoder the id of the site kind, or 0. */
const KIND_BY_CODE: Uint8Array = (() => {
  const wanted = new Map(
    Object.entries(CODES).flatMap(([kind, names]) =>
      names.split(' ').map((name) => [name, SITE_KINDS[kind as SiteKindName].id] as const),
    ),
  );
  const codes = Object.entries(Code).filter((entry): entry is [string, Code] => typeof entry[1] === 'number');
  const table = new Uint8Array(codes.length);
  for (const [name, code] of codes) table[code] = wanted.get(name) ?? wanted.get(name.split('_')[0]!) ?? 0;
  return table;
})();

const KIND_BY_ID = new Map<number, SiteKindName>(
  Object.entries(SITE_KINDS).map(([name, { id }]) => [id, name as SiteKindName]),
);

export const kindById = (id: number): SiteKindName | undefined => KIND_BY_ID.get(id);

/** The kind of sensitive operation in domains `cpu` and `portio` that a decoded instruction is, by its `code`. */
export const kindOfCode = (code: Code): SiteKindName | undefined => {
  const id = KIND_BY_CODE[code];
  return id ? KIND_BY_ID.get(id) : undefined;
};

const accessesMemory = (instruction: Instruction): boolean => {
  for (let operand = 0; operand < instruction.opCount; operand++) {
    const kind = instruction.opKind(operand);
    if (kind >= OpKind.MemorySegSI && kind <= OpKind.Memory) return true;
  }
  return false;
};

/** Kinds that the instruction alone does not tell: it must at least be able to be one. */
const POSSIBLE: Partial<Record<SiteKindName, (instruction: Instruction) => boolean>> = {
  mmio_read: accessesMemory,
  mmio_write: accessesMemory,
  pagetable_read: accessesMemory,
  pagetable_write: accessesMemory,
  module_load: (instruction) => instruction.code === Code.Nop_rm32,
  module_init_freed: (instruction) => instruction.code === Code.Nop_rm32,
  module_unload: (instruction) => instruction.code === Code.Nop_rm32,
  entry_int80: (instruction) => instruction.code === Code.Int_imm8 && instruction.immediate8 === 0x80,
  entry_sysenter: (instruction) => instruction.code === Code.Sysenter,
  entry_syscall: (instruction) => instruction.code === Code.Syscall,
};

/** Whether a decoded instruction is what a record of this kind says. */
export const isOfKind = (instruction: Instruction, kind: SiteKindName): boolean =>
  POSSIBLE[kind]?.(instruction) ?? kindOfCode(instruction.code) === kind;

/** The operation of a site, as substitutions are chosen by it. */
export interface Operation {
  /** The decoder's name of the instruction's form, such as `Mov_Sreg_r32m16`. */
  readonly form: string;
  /** Register operands in Intel's order, such as `['ds', 'eax']`; '' for other operands. */
  readonly registers: readonly string[];
}

const REGISTER_NAMES: readonly string[] = (() => {
  const names: string[] = [];
  for (const [name, value] of Object.entries(Register))
    if (typeof value === 'number') names[value] = name === 'None' ? '' : name.toLowerCase();
  return names;
})();

export function operationOf(instruction: Instruction): Operation {
  const registers: string[] = [];
  for (let operand = 0; operand < instruction.opCount; operand++)
    registers.push(
      instruction.opKind(operand) === OpKind.Register
        ? (REGISTER_NAMES[instruction.opRegister(operand)] ?? '')
        : '',
    );
  return { form: Code[instruction.code]!, registers };
}
