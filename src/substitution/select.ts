/** Chooses the substitution of a site for a target. */

import { InputError } from '../elf/input-error.ts';
import type { ElfClass } from '../elf/structs.ts';
import type { Site } from '../sites/site.ts';
import type { GuestVirtual } from '../x86/address.ts';
import type { DomainName, SiteKindName } from '../x86/site-kinds.ts';
import { SITE_FLAGS } from '../x86/site-record.ts';
import { entryAddress, entryIndex, entryPointerAddress, WEDGE_ENTRIES } from './entries.ts';
import { callTemplate, type Form, type Template } from './template.ts';

/** What burning needs to know of a target. */
export interface BurnTarget {
  readonly class: ElfClass;
  /** Domains that need no substitution. */
  readonly native: readonly DomainName[];
  readonly entries: readonly string[];
  /** What the patch table records. */
  entryIndex(name: string): number;
  entryAddress(name: string): GuestVirtual;
  entryPointerAddress(name: string): GuestVirtual;
}

const ENTRY_CODE = { entries: WEDGE_ENTRIES, entryIndex, entryAddress, entryPointerAddress } as const;

export const BURN_TARGETS = {
  hosted: { class: 32, native: [], ...ENTRY_CODE },
  // User code cannot reach the wedge's entries there; its own instruction is the shortest way.
  xen: { class: 32, native: ['entry'], ...ENTRY_CODE },
} as const satisfies Record<string, BurnTarget>;

/**
 * What is burned unless asked otherwise. Not `pagetable`: a call of the wedge for
 * each entry that is written costs more than finding it at the next flush
 * (docs/performance.md).
 */
export const USUAL_DOMAINS: readonly DomainName[] = ['cpu', 'portio', 'mmio', 'entry'];

export type BurnTargetName = keyof typeof BURN_TARGETS;

/** @throws InputError if there is no such target. */
export function burnTarget(name: string): BurnTarget {
  if (Object.hasOwn(BURN_TARGETS, name)) return BURN_TARGETS[name as BurnTargetName];
  throw new InputError(
    `there is no target ${JSON.stringify(name)} to burn for`,
    `targets: ${Object.keys(BURN_TARGETS).join(', ')}; bare runs the kernel unburned`,
  );
}

/** Of domains that are to be burned, those whose sites a target needs substituted. */
export const substituted = (target: BurnTargetName, domains: readonly DomainName[]): readonly DomainName[] =>
  domains.filter((domain) => !burnTarget(target).native.includes(domain));

/** The entry that does any site: it finds the original instruction by the return address. */
export const GENERIC = 'emulate';

/**
 * Entries of their own, by kind and by the decoder's name of the instruction's
 * form; <0> and <1> stand for the register operands, 16-bit ones by their
 * 32-bit name. Where a target does not have the entry, the generic one serves.
 */
const ENTRIES: Partial<Record<SiteKindName, Readonly<Record<string, string>>>> = {
  cli: { Cli: 'cli' },
  sti: { Sti: 'sti' },
  pushf: { Pushfd: 'pushf' },
  popf: { Popfd: 'popf' },
  iret: { Iretd: 'iret' },
  hlt: { Hlt: 'hlt' },
  in: { In_AL_DX: 'in8', In_AX_DX: 'in16', In_EAX_DX: 'in32' },
  out: { Out_DX_AL: 'out8', Out_DX_AX: 'out16', Out_DX_EAX: 'out32' },
  push_seg: {
    Pushd_ES: 'push_<0>',
    Pushd_CS: 'push_<0>',
    Pushd_SS: 'push_<0>',
    Pushd_DS: 'push_<0>',
    Pushd_FS: 'push_<0>',
    Pushd_GS: 'push_<0>',
  },
  pop_seg: {
    Popd_ES: 'pop_<0>',
    Popd_SS: 'pop_<0>',
    Popd_DS: 'pop_<0>',
    Popd_FS: 'pop_<0>',
    Popd_GS: 'pop_<0>',
  },
  mov_to_seg: { Mov_Sreg_r32m16: 'mov_<0>_<1>', Mov_Sreg_rm16: 'mov_<0>_<1>' },
  mov_from_seg: { Mov_r32m16_Sreg: 'mov_<0>_<1>' },
  mov_to_cr: { Mov_cr_r32: 'mov_<0>_<1>' },
  mov_from_cr: { Mov_r32_cr: 'mov_<0>_<1>' },
  entry_int80: { Int_imm8: 'entry_int80' },
  entry_sysenter: { Sysenter: 'entry_sysenter' },
};

const WIDE_REGISTERS: Readonly<Record<string, string>> = {
  ax: 'eax',
  cx: 'ecx',
  dx: 'edx',
  bx: 'ebx',
  sp: 'esp',
  bp: 'ebp',
  si: 'esi',
  di: 'edi',
};

export interface Substitution {
  readonly entry: string;
  readonly form: Form;
}

/** Total: every site has a substitution. */
export function selectSubstitution(
  site: Pick<Site, 'kind' | 'flags' | 'operation'>,
  target: BurnTarget,
  counted = false,
): Substitution {
  const absolute = (site.flags & SITE_FLAGS.absolute) !== 0;
  const { form, registers } = site.operation;
  const named = ENTRIES[site.kind]?.[form]?.replace(/<(\d)>/g, (_, index) => {
    const register = registers[Number(index)] ?? '';
    return WIDE_REGISTERS[register] ?? register;
  });
  if (counted && !absolute && !site.kind.startsWith('entry_')) return { entry: GENERIC, form: 'relative' };
  // By kind, if that says all: where the code is copied, no return address finds the site.
  const candidates = [named, `emulate_${site.kind}`];
  const entry = candidates.find((name) => name !== undefined && target.entries.includes(name)) ?? GENERIC;
  return { entry, form: absolute ? 'absolute' : 'relative' };
}

export const substitutionTemplate = (
  { entry, form }: Substitution,
  length: number,
  target: BurnTarget,
): Template =>
  callTemplate(
    form,
    form === 'absolute' ? target.entryPointerAddress(entry) : target.entryAddress(entry),
    length,
  );
