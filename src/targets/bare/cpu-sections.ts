/**
 * The processor: QEMU's sections `cpu`, `cpu_common` and `timer` on one side,
 * the virtual CPU and its FXSAVE image on the other (QEMU 7.2, target/i386;
 * SDM vol. 1, 10.5.1 for the image).
 */

import { viewOf } from '../../elf/codec.ts';
import { InputError } from '../../elf/input-error.ts';
import type { RecordOf } from '../../elf/record.ts';
import type { Cpu, SEGMENT } from '../../machine/cpu.ts';
import { pointersOf } from '../../machine/paging.ts';
import type { Ram } from '../../machine/ram.ts';
import { FPU_FORMAT, FPU_SIZE, type MachineState } from '../../machine/state.ts';
import type { MigrationStream, Section } from './migration-stream.ts';
import {
  type FieldValue,
  field,
  fieldBytes,
  hasField,
  type NewSubsection,
  sectionOf,
  wideField,
} from './section-fields.ts';

type Segment = RecordOf<typeof SEGMENT>;

const EFLAGS = { TF: 1 << 8, IF: 1 << 9, IOPL: 3 << 12, VM: 1 << 17, AC: 1 << 18, FIXED: 2 } as const;
const CR0 = { PE: 1, MP: 2, EM: 4, TS: 8 } as const;
const CR4 = { OSFXSR: 1 << 9, OSXSAVE: 1 << 18 } as const;
const XCR0 = { X87: 1n, SSE: 2n } as const;
const PAGE_FAULT_FREE = -1;

/** Bits of QEMU's `hflags`: what it has derived from registers, and the interrupt shadow. */
const HFLAG = {
  inhibitIrq: 1 << 3,
  cs32: 1 << 4,
  ss32: 1 << 5,
  addSegments: 1 << 6,
  protectedMode: 1 << 7,
  mp: 1 << 9,
  em: 1 << 10,
  ts: 1 << 11,
  osfxsr: 1 << 22,
} as const;

/** Of `interrupt_request`: the i8259's INT output is high. */
const INTERRUPT_HARD = 2;

const ATTR_BIG = 1 << 14;
const SEGMENTS = 6;
const [CS, SS] = [1, 2] as const;

const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** A segment's flags in QEMU are the second word of its descriptor. */
const segment = (cpu: Section, name: string): Segment => ({
  base: field(cpu, `${name}.base`),
  limit: field(cpu, `${name}.limit`),
  selector: field(cpu, `${name}.selector`) & 0xffff,
  attributes: (field(cpu, `${name}.flags`) >>> 8) & 0xf0ff,
});

const segmentFields = (name: string, value: Segment): Record<string, FieldValue> => ({
  [`${name}.base`]: value.base,
  [`${name}.limit`]: value.limit,
  [`${name}.selector`]: value.selector,
  [`${name}.flags`]: value.attributes << 8,
});

/**
 * The type of a TSS that is busy has this bit, in the register as well as in the
 * table (SDM vol. 3A, 8.2.2). QEMU's LTR sets it in the table only, and QEMU takes
 * no TSS that has it in the register.
 */
const BUSY = 2;

const taskRegister = (cpu: Section): Segment => {
  const found = segment(cpu, 'env.tr');
  return { ...found, attributes: found.attributes | BUSY };
};

const taskRegisterFields = (tr: Segment): Record<string, FieldValue> =>
  segmentFields('env.tr', { ...tr, attributes: tr.attributes & ~BUSY });

/** What of the processor the virtual PC does not have. @throws InputError naming it */
function checkCpu(cpu: Section): void {
  const refused: readonly (readonly [boolean, string])[] = [
    [(field(cpu, 'env.eflags') & EFLAGS.VM) !== 0, 'virtual-8086 mode'],
    [(field(cpu, 'env.cr[0]') & CR0.PE) === 0, 'real mode'],
    [field(cpu, 'env.a20_mask') !== -1, 'A20 held low'],
    [(field(cpu, 'env.hflags') & (1 << 19)) !== 0, 'system management mode'],
    [field(cpu, 'env.nmi_pending') !== 0, 'a non-maskable interrupt that waits'],
    [field(cpu, 'env.exception_nr') !== PAGE_FAULT_FREE, 'an exception half delivered'],
  ];
  const found = refused.find(([is]) => is);
  if (found) throw new InputError(`the guest cannot be taken over: its processor is in ${found[1]}`);
}

export function cpuOf(stream: MigrationStream, ram: Ram): Cpu {
  const cpu = sectionOf(stream, 'cpu');
  checkCpu(cpu);
  const eflags = field(cpu, 'env.eflags');
  const hflags = field(cpu, 'env.hflags');
  const [cr0, cr3] = [field(cpu, 'env.cr[0]'), field(cpu, 'env.cr[3]')];
  // Not the guest's own (withXgetbv).
  const cr4 = field(cpu, 'env.cr[4]') & ~CR4.OSXSAVE;
  // QEMU has none of its own, and reads RAM each time.
  const pdpte = pointersOf(ram, { cr0, cr3, cr4 });
  if (!pdpte) throw new InputError('QEMU stream: section cpu: cr3 does not point into RAM');
  const apart = EFLAGS.IOPL | EFLAGS.TF | EFLAGS.AC;
  return {
    gpr: range(8).map((index) => field(cpu, `env.regs[${index}]`)),
    eip: field(cpu, 'env.eip'),
    eflags: ((eflags & ~(EFLAGS.IF | EFLAGS.IOPL | EFLAGS.VM)) | EFLAGS.FIXED) >>> 0,
    interrupt_flag: eflags & EFLAGS.IF,
    system_flags: eflags & apart,
    pending: 0,
    shadow: (hflags & HFLAG.inhibitIrq) === 0 ? 0 : 1,
    cpl: hflags & 3,
    halted: field(sectionOf(stream, 'cpu_common'), 'halted') === 0 ? 0 : 1,
    segments: range(SEGMENTS).map((index) => segment(cpu, `env.segs[${index}]`)),
    ldtr: segment(cpu, 'env.ldt'),
    tr: taskRegister(cpu),
    gdtr: { base: field(cpu, 'env.gdt.base'), limit: field(cpu, 'env.gdt.limit') },
    idtr: { base: field(cpu, 'env.idt.base'), limit: field(cpu, 'env.idt.limit') },
    cr0,
    cr2: field(cpu, 'env.cr[2]'),
    cr3,
    cr4,
    dr: range(8).map((index) => field(cpu, `env.dr[${index}]`)),
    sysenter_cs: field(cpu, 'env.sysenter_cs'),
    sysenter_esp: field(cpu, 'env.sysenter_esp'),
    sysenter_eip: field(cpu, 'env.sysenter_eip'),
    return_work: 0,
    pat: wideField(cpu, 'env.pat'),
    misc_enable: hasField(cpu, 'env.msr_ia32_misc_enable')
      ? wideField(cpu, 'env.msr_ia32_misc_enable')
      : MISC_ENABLE_RESET,
    tsc_offset: 0n,
    tsc_aux: wideField(cpu, 'env.tsc_aux'),
    xcr0: XCR0.X87,
    pdpte,
  };
}

const MISC_ENABLE_RESET = 1n;

/* Offsets in the FXSAVE image. */
const FXSAVE = {
  control: 0,
  status: 2,
  tags: 4,
  opcode: 6,
  ip: 8,
  dp: 16,
  mxcsr: 24,
  mask: 28,
  st: 32,
  xmm: 160,
};
const FXSAVE_SIZE = 512;
const MXCSR_MASK = 0xffff;
const REGISTERS = 8;

/** Top of the register stack, from the status word. */
const topOf = (status: number): number => (status >> 11) & 7;

/** QEMU keeps the registers by their number, FXSAVE from the top of the stack. */
export function fpuOf(stream: MigrationStream): Pick<MachineState, 'fpu' | 'fpu_format' | 'fpu_size'> {
  const cpu = sectionOf(stream, 'cpu');
  const fpu = new Uint8Array(FPU_SIZE);
  const view = viewOf(fpu);
  const status = field(cpu, 'env.fpus_vmstate');
  view.setUint16(FXSAVE.control, field(cpu, 'env.fpuc'), true);
  view.setUint16(FXSAVE.status, status, true);
  view.setUint8(FXSAVE.tags, field(cpu, 'env.fptag_vmstate'));
  if (hasField(cpu, 'env.fpop')) {
    view.setUint16(FXSAVE.opcode, field(cpu, 'env.fpop'), true);
    view.setBigUint64(FXSAVE.ip, wideField(cpu, 'env.fpip'), true);
    view.setBigUint64(FXSAVE.dp, wideField(cpu, 'env.fpdp'), true);
  }
  view.setUint32(FXSAVE.mxcsr, field(cpu, 'env.mxcsr'), true);
  view.setUint32(FXSAVE.mask, MXCSR_MASK, true);
  for (const index of range(REGISTERS)) {
    const bytes = fieldBytes(cpu, `env.fpregs[${(index + topOf(status)) % REGISTERS}].tmp`);
    const from = viewOf(bytes);
    view.setBigUint64(FXSAVE.st + 16 * index, from.getBigUint64(0), true);
    view.setUint16(FXSAVE.st + 16 * index + 8, from.getUint16(8), true);
    for (const half of [0, 1])
      view.setBigUint64(
        FXSAVE.xmm + 16 * index + 8 * half,
        wideField(cpu, `env.xmm_regs[0][${index}]._q_ZMMReg[${half}]`),
        true,
      );
  }
  return { fpu, fpu_format: FPU_FORMAT.FXSAVE, fpu_size: FXSAVE_SIZE };
}

function fpuFields({ fpu, fpu_format }: MachineState): Record<string, FieldValue> {
  // XSAVE's standard form begins with the same 512 bytes; QEMU's processor has no more.
  if (fpu_format !== FPU_FORMAT.FXSAVE && fpu_format !== FPU_FORMAT.XSAVE)
    throw new InputError(`FPU state in unknown form ${fpu_format}`);
  const view = viewOf(fpu);
  const status = view.getUint16(FXSAVE.status, true);
  const fields: Record<string, FieldValue> = {
    'env.fpuc': view.getUint16(FXSAVE.control, true),
    'env.fpus_vmstate': status,
    'env.fptag_vmstate': view.getUint8(FXSAVE.tags),
    'env.mxcsr': view.getUint32(FXSAVE.mxcsr, true),
  };
  for (const index of range(REGISTERS)) {
    const bytes = Buffer.alloc(10);
    bytes.writeBigUInt64BE(view.getBigUint64(FXSAVE.st + 16 * index, true));
    bytes.writeUInt16BE(view.getUint16(FXSAVE.st + 16 * index + 8, true), 8);
    fields[`env.fpregs[${(index + topOf(status)) % REGISTERS}].tmp`] = bytes;
    for (const half of [0, 1])
      fields[`env.xmm_regs[0][${index}]._q_ZMMReg[${half}]`] = view.getBigUint64(
        FXSAVE.xmm + 16 * index + 8 * half,
        true,
      );
  }
  return fields;
}

/** What the section has only if it is not as after reset. */
export function cpuSubsections({ cpu, fpu }: MachineState): NewSubsection[] {
  const view = viewOf(fpu);
  const wide = (name: string, value: bigint) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64BE(value);
    return { name, type: 'uint64', bytes };
  };
  const opcode = Buffer.alloc(2);
  opcode.writeUInt16BE(view.getUint16(FXSAVE.opcode, true));
  const ip = view.getBigUint64(FXSAVE.ip, true);
  const dp = view.getBigUint64(FXSAVE.dp, true);
  const lastOperation = {
    name: 'cpu/fpop_ip_dp',
    version: 1,
    fields: [{ name: 'env.fpop', type: 'uint16', bytes: opcode }, wide('env.fpip', ip), wide('env.fpdp', dp)],
  };
  const miscEnable = {
    name: 'cpu/msr_ia32_misc_enable',
    version: 1,
    fields: [wide('env.msr_ia32_misc_enable', cpu.misc_enable)],
  };
  return [
    ...(ip || dp || opcode.some((byte) => byte !== 0) ? [lastOperation] : []),
    ...(cpu.misc_enable === MISC_ENABLE_RESET ? [] : [miscEnable]),
  ];
}

/** QEMU takes these bits as they come, so they must be right. */
function hflagsOf(cpu: Cpu): number {
  const big = (index: number): boolean => (cpu.segments[index]!.attributes & ATTR_BIG) !== 0;
  const bases = [0, SS, 3].some((index) => cpu.segments[index]!.base !== 0);
  const set: readonly (readonly [boolean, number])[] = [
    [cpu.shadow !== 0, HFLAG.inhibitIrq],
    [big(CS), HFLAG.cs32],
    [big(SS), HFLAG.ss32],
    [!big(CS) || bases, HFLAG.addSegments],
    [(cpu.cr0 & CR0.PE) !== 0, HFLAG.protectedMode],
    [(cpu.cr0 & CR0.MP) !== 0, HFLAG.mp],
    [(cpu.cr0 & CR0.EM) !== 0, HFLAG.em],
    [(cpu.cr0 & CR0.TS) !== 0, HFLAG.ts],
    [(cpu.cr4 & CR4.OSFXSR) !== 0, HFLAG.osfxsr],
  ];
  return set.reduce((flags, [is, bit]) => (is ? flags | bit : flags), cpu.cpl);
}

/** EFLAGS as the guest sees it: TF and AC of its kernel are kept with the virtual flags. */
const eflagsOf = (cpu: Cpu): number => cpu.eflags | EFLAGS.FIXED | cpu.interrupt_flag | cpu.system_flags;

/**
 * With XGETBV for user code, though the guest's kernel does not know of it: a program that
 * started as a process of this host has seen there what the host's CPUID says, and executes
 * XGETBV some microseconds later (glibc, sysdeps/x86/cpu-features.c). It finds that there is no
 * more than FXSAVE saves. A kernel that writes CR4 takes it back.
 */
export const withXgetbv = (cpu: Cpu): Cpu => ({
  ...cpu,
  cr4: cpu.cr4 | CR4.OSXSAVE,
  xcr0: XCR0.X87 | XCR0.SSE,
});

/** The fields that replace a template's, by section. */
export function cpuFields(
  state: MachineState,
): Record<'cpu' | 'cpu_common' | 'timer', Record<string, FieldValue>> {
  const { cpu, devices } = state;
  const numbered = (name: string, values: readonly number[]): Record<string, FieldValue> =>
    Object.fromEntries(values.map((value, index) => [`${name}[${index}]`, value]));
  return {
    cpu: {
      ...numbered('env.regs', cpu.gpr),
      ...numbered('env.dr', cpu.dr),
      'env.eip': cpu.eip,
      'env.eflags': eflagsOf(cpu),
      'env.hflags': hflagsOf(cpu),
      ...Object.assign({}, ...cpu.segments.map((value, index) => segmentFields(`env.segs[${index}]`, value))),
      ...segmentFields('env.ldt', cpu.ldtr),
      ...taskRegisterFields(cpu.tr),
      'env.gdt.base': cpu.gdtr.base,
      'env.gdt.limit': cpu.gdtr.limit,
      'env.idt.base': cpu.idtr.base,
      'env.idt.limit': cpu.idtr.limit,
      'env.cr[0]': cpu.cr0,
      'env.cr[2]': cpu.cr2,
      'env.cr[3]': cpu.cr3,
      'env.cr[4]': cpu.cr4,
      'env.xcr0': cpu.xcr0,
      'env.sysenter_cs': cpu.sysenter_cs,
      'env.sysenter_esp': cpu.sysenter_esp,
      'env.sysenter_eip': cpu.sysenter_eip,
      'env.pat': cpu.pat,
      'env.tsc_aux': cpu.tsc_aux,
      ...fpuFields(state),
    },
    cpu_common: { halted: cpu.halted, interrupt_request: devices.i8259[0]!.intr ? INTERRUPT_HARD : 0 },
    timer: { cpu_ticks_offset: state.tsc, cpu_clock_offset: state.time },
  };
}
