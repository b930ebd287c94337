/**
 * The sensitive operations as GNU as (AT&T syntax) spells them.
 *
 * Decoders mark instructions as privileged; what matters here is whether an
 * instruction behaves differently when the kernel does not own the machine.
 * `popf`, `iret` or a load of %ds never trap on their own and are the ones that
 * count, so this table is the project's own.
 */
import type { SiteKindName } from './site-kinds.ts';

/**
 * How the operands decide the length, and whether the operation is sensitive at all.
 *
 *   fixed      the opcode is the whole instruction; an immediate adds two bytes (lret $n)
 *   int        opcode and vector; vector 3 is a breakpoint and traps by itself
 *   modrm      opcode, ModRM and what the memory operand needs
 *   far        ptr16:32 as two immediates, or an indirect memory operand
 *   port       opcode; an immediate port adds one byte
 *   ins, outs  opcode; memory is %es:(%edi), which has no override, or %ds:(%esi), which has
 *   monitor    fixed, with the implicit memory operand %ds:(%eax)
 *   mov        sensitive if one operand is a segment, control or debug register
 *   pushpop    sensitive if the operand is a segment register
 */
export type OperandForm =
  | 'fixed'
  | 'int'
  | 'modrm'
  | 'far'
  | 'port'
  | 'ins'
  | 'outs'
  | 'monitor'
  | 'mov'
  | 'push'
  | 'pop';

export interface SensitiveMnemonic {
  /** For `mov`, `push` and `pop` the operands decide; this is then the kind for a segment register as source. */
  readonly kind: SiteKindName;
  readonly form: OperandForm;
  /** Bytes of the opcode, mandatory prefixes and those implied by the suffix included, without ModRM. */
  readonly opcodeLength: number;
}

/**
 * One row: mnemonic, operand-size suffixes it may carry ('-' is the bare name),
 * form, opcode bytes, kind. A suffix in upper case costs a prefix byte (66 for
 * W; REX.W for Q).
 */
// biome-ignore format: aligned columns
const TABLE = [
  // mnemonic   suffixes form     bytes  kind
  ['cli',       '-',     'fixed',   1, 'cli'],
  ['sti',       '-',     'fixed',   1, 'sti'],
  ['pushf',     '-Wlq',  'fixed',   1, 'pushf'],
  ['popf',      '-Wlq',  'fixed',   1, 'popf'],
  ['iret',      '-WlQ',  'fixed',   1, 'iret'],
  ['hlt',       '-',     'fixed',   1, 'hlt'],
  ['clts',      '-',     'fixed',   2, 'clts'],
  ['lmsw',      '-w',    'modrm',   2, 'lmsw'],
  ['smsw',      '-wlq',  'modrm',   2, 'smsw'],
  ['lgdt',      '-wlq',  'modrm',   2, 'lgdt'],
  ['lidt',      '-wlq',  'modrm',   2, 'lidt'],
  ['lldt',      '-w',    'modrm',   2, 'lldt'],
  ['ltr',       '-w',    'modrm',   2, 'ltr'],
  ['sgdt',      '-wlq',  'modrm',   2, 'sgdt'],
  ['sidt',      '-wlq',  'modrm',   2, 'sidt'],
  ['sldt',      '-wlq',  'modrm',   2, 'sldt'],
  ['str',       '-wlq',  'modrm',   2, 'str'],
  ['invlpg',    '-',     'modrm',   2, 'invlpg'],
  ['invd',      '-',     'fixed',   2, 'invd'],
  ['wbinvd',    '-',     'fixed',   2, 'wbinvd'],
  ['wbnoinvd',  '-',     'fixed',   3, 'wbinvd'],
  ['invpcid',   '-',     'modrm',   4, 'invpcid'],
  ['rdmsr',     '-',     'fixed',   2, 'rdmsr'],
  ['wrmsr',     '-',     'fixed',   2, 'wrmsr'],
  ['rdtsc',     '-',     'fixed',   2, 'rdtsc'],
  ['rdtscp',    '-',     'fixed',   3, 'rdtscp'],
  ['rdpmc',     '-',     'fixed',   2, 'rdpmc'],
  ['cpuid',     '-',     'fixed',   2, 'cpuid'],
  ['xgetbv',    '-',     'fixed',   3, 'xgetbv'],
  ['xsetbv',    '-',     'fixed',   3, 'xsetbv'],
  ['monitor',   '-',     'monitor', 3, 'monitor'],
  ['mwait',     '-',     'fixed',   3, 'mwait'],
  ['mov',       '-wlq',  'mov',     1, 'mov_from_seg'],
  ['push',      '-Wlq',  'push',    1, 'push_seg'],
  ['pop',       '-Wlq',  'pop',     1, 'pop_seg'],
  ['lds',       '-Wl',   'modrm',   1, 'load_far_pointer'],
  ['les',       '-Wl',   'modrm',   1, 'load_far_pointer'],
  ['lfs',       '-WlQ',  'modrm',   2, 'load_far_pointer'],
  ['lgs',       '-WlQ',  'modrm',   2, 'load_far_pointer'],
  ['lss',       '-WlQ',  'modrm',   2, 'load_far_pointer'],
  ['lcall',     '-WlQ',  'far',     1, 'far_call'],
  ['ljmp',      '-WlQ',  'far',     1, 'far_jmp'],
  ['lret',      '-WlQ',  'fixed',   1, 'far_ret'],
  ['retf',      '-WlQ',  'fixed',   1, 'far_ret'],
  ['sysenter',  '-',     'fixed',   2, 'sysenter'],
  ['sysexit',   '-lQ',   'fixed',   2, 'sysexit'],
  ['syscall',   '-',     'fixed',   2, 'syscall'],
  ['sysret',    '-lQ',   'fixed',   2, 'sysret'],
  ['swapgs',    '-',     'fixed',   3, 'swapgs'],
  ['int',       '-',     'int',     1, 'int'],
  ['verr',      '-',     'modrm',   2, 'verr'],
  ['verw',      '-',     'modrm',   2, 'verw'],
  ['lar',       '-wlq',  'modrm',   2, 'lar'],
  ['lsl',       '-wlq',  'modrm',   2, 'lsl'],
  ['arpl',      '-w',    'modrm',   1, 'arpl'],
  ['clac',      '-',     'fixed',   3, 'clac'],
  ['stac',      '-',     'fixed',   3, 'stac'],
  ['rdfsbase',  '-lq',   'modrm',   3, 'rdfsbase'],
  ['rdgsbase',  '-lq',   'modrm',   3, 'rdfsbase'],
  ['wrfsbase',  '-lq',   'modrm',   3, 'wrfsbase'],
  ['wrgsbase',  '-lq',   'modrm',   3, 'wrfsbase'],
  ['rsm',       '-',     'fixed',   2, 'rsm'],
  ['in',        '-bWl',  'port',    1, 'in'],
  ['out',       '-bWl',  'port',    1, 'out'],
  ['ins',       '-bWl',  'ins',     1, 'ins'],
  ['outs',      '-bWl',  'outs',    1, 'outs'],
] as const satisfies readonly (readonly [string, string, OperandForm, number, SiteKindName])[];

/** Instructions of 64-bit code only: elsewhere their bytes are undefined, and trap as such. */
export const LONG_ONLY: ReadonlySet<SiteKindName> = new Set(['swapgs', 'rdfsbase', 'wrfsbase']);

const costsPrefix = (suffix: string) => suffix >= 'A' && suffix <= 'Z';

/** Every spelling, suffix variants included, in lower case. */
export const SENSITIVE_MNEMONICS: ReadonlyMap<string, SensitiveMnemonic> = new Map(
  TABLE.flatMap(([mnemonic, suffixes, form, bytes, kind]) =>
    [...suffixes].map((suffix) => [
      suffix === '-' ? mnemonic : mnemonic + suffix.toLowerCase(),
      { kind, form, opcodeLength: bytes + (costsPrefix(suffix) ? 1 : 0) },
    ]),
  ),
);

/**
 * Whole instructions that kernels spell as bytes, for assemblers older than the
 * instruction: the bytes in hexadecimal, without separators.
 */
export const RAW_ENCODINGS: ReadonlyMap<string, SensitiveMnemonic> = new Map(
  (
    [
      // bytes    form       kind
      ['0f01c8', 'monitor', 'monitor'],
      ['0f01c9', 'fixed', 'mwait'],
      ['0f01ca', 'fixed', 'clac'],
      ['0f01cb', 'fixed', 'stac'],
      ['0f01d0', 'fixed', 'xgetbv'],
      ['0f01d1', 'fixed', 'xsetbv'],
      ['0f01f8', 'fixed', 'swapgs'],
      ['0f01f9', 'fixed', 'rdtscp'],
      ['0faa', 'fixed', 'rsm'],
      ['0f05', 'fixed', 'syscall'],
      ['0f07', 'fixed', 'sysret'],
      ['0f30', 'fixed', 'wrmsr'],
      ['0f31', 'fixed', 'rdtsc'],
      ['0f32', 'fixed', 'rdmsr'],
      ['0f33', 'fixed', 'rdpmc'],
      ['0f34', 'fixed', 'sysenter'],
      ['0f35', 'fixed', 'sysexit'],
      ['0fa2', 'fixed', 'cpuid'],
    ] as const satisfies readonly (readonly [string, OperandForm, SiteKindName])[]
  ).map(([bytes, form, kind]) => [bytes, { kind, form, opcodeLength: bytes.length / 2 }]),
);

export interface SensitiveRegister {
  readonly from: SiteKindName;
  readonly to: SiteKindName;
  /** Bytes of the opcode of a move to or from it. */
  readonly opcodeLength: number;
}

const SEGMENT: SensitiveRegister = { from: 'mov_from_seg', to: 'mov_to_seg', opcodeLength: 1 };
const CONTROL: SensitiveRegister = { from: 'mov_from_cr', to: 'mov_to_cr', opcodeLength: 2 };
const DEBUG: SensitiveRegister = { from: 'mov_from_dr', to: 'mov_to_dr', opcodeLength: 2 };

const numbered = (stem: string) => [...Array(16).keys()].map((number) => stem + number);

/** Registers whose moves are sensitive, by name without `%`. */
export const SENSITIVE_REGISTERS: ReadonlyMap<string, SensitiveRegister> = new Map([
  ...['cs', 'ds', 'es', 'fs', 'gs', 'ss'].map((name) => [name, SEGMENT] as const),
  ...numbered('cr').map((name) => [name, CONTROL] as const),
  ...['db', 'dr'].flatMap(numbered).map((name) => [name, DEBUG] as const),
]);
