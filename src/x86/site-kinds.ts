/**
 * Annotation domains and site kinds: the vocabulary that the annotator writes
 * into site records, the patch table carries, and the wedge is built with.
 *
 * The numbers are part of the site-record format: never reuse or renumber one.
 * The operands are not in the kind; they are read from the original bytes.
 */

/** A class of sites that is switched as one. */
export const DOMAINS = {
  cpu: 1,
  portio: 2,
  mmio: 3,
  pagetable: 4,
  entry: 5,
} as const;

export type DomainName = keyof typeof DOMAINS;

/** Every kind of sensitive operation: number and domain, by name. */
export const SITE_KINDS = {
  // The interrupt flag and whatever saves or restores it (SDM vol. 2, CLI, STI, PUSHF, POPF, IRET).
  cli: { id: 1, domain: 'cpu' },
  sti: { id: 2, domain: 'cpu' },
  pushf: { id: 3, domain: 'cpu' },
  popf: { id: 4, domain: 'cpu' },
  iret: { id: 5, domain: 'cpu' },
  hlt: { id: 6, domain: 'cpu' },
  // Control and debug registers.
  mov_from_cr: { id: 7, domain: 'cpu' },
  mov_to_cr: { id: 8, domain: 'cpu' },
  mov_from_dr: { id: 9, domain: 'cpu' },
  mov_to_dr: { id: 10, domain: 'cpu' },
  clts: { id: 11, domain: 'cpu' },
  lmsw: { id: 12, domain: 'cpu' },
  smsw: { id: 13, domain: 'cpu' },
  // Descriptor-table registers.
  lgdt: { id: 14, domain: 'cpu' },
  lidt: { id: 15, domain: 'cpu' },
  lldt: { id: 16, domain: 'cpu' },
  ltr: { id: 17, domain: 'cpu' },
  sgdt: { id: 18, domain: 'cpu' },
  sidt: { id: 19, domain: 'cpu' },
  sldt: { id: 20, domain: 'cpu' },
  str: { id: 21, domain: 'cpu' },
  // Caches and translations.
  invlpg: { id: 22, domain: 'cpu' },
  invd: { id: 23, domain: 'cpu' },
  wbinvd: { id: 24, domain: 'cpu' },
  invpcid: { id: 25, domain: 'cpu' },
  // Model-specific registers, counters, identification, extended state.
  rdmsr: { id: 26, domain: 'cpu' },
  wrmsr: { id: 27, domain: 'cpu' },
  rdtsc: { id: 28, domain: 'cpu' },
  rdtscp: { id: 29, domain: 'cpu' },
  rdpmc: { id: 30, domain: 'cpu' },
  cpuid: { id: 31, domain: 'cpu' },
  xgetbv: { id: 32, domain: 'cpu' },
  xsetbv: { id: 33, domain: 'cpu' },
  monitor: { id: 34, domain: 'cpu' },
  mwait: { id: 35, domain: 'cpu' },
  // Segment registers. `mov_to_seg` includes mov to %ss, which opens an interrupt shadow.
  mov_to_seg: { id: 36, domain: 'cpu' },
  mov_from_seg: { id: 37, domain: 'cpu' },
  push_seg: { id: 38, domain: 'cpu' },
  pop_seg: { id: 39, domain: 'cpu' },
  load_far_pointer: { id: 40, domain: 'cpu' }, // lds, les, lfs, lgs, lss
  far_call: { id: 41, domain: 'cpu' },
  far_jmp: { id: 42, domain: 'cpu' },
  far_ret: { id: 43, domain: 'cpu' },
  // System-call instructions in kernel code.
  sysenter: { id: 44, domain: 'cpu' },
  sysexit: { id: 45, domain: 'cpu' },
  syscall: { id: 46, domain: 'cpu' },
  sysret: { id: 47, domain: 'cpu' },
  swapgs: { id: 48, domain: 'cpu' },
  int: { id: 49, domain: 'cpu' }, // int $n; not int3, into or ud2, which trap by themselves
  // Descriptor inspection.
  verr: { id: 50, domain: 'cpu' },
  verw: { id: 51, domain: 'cpu' },
  lar: { id: 52, domain: 'cpu' },
  lsl: { id: 53, domain: 'cpu' },
  arpl: { id: 54, domain: 'cpu' },
  // Supervisor-mode access prevention, segment bases.
  clac: { id: 55, domain: 'cpu' },
  stac: { id: 56, domain: 'cpu' },
  rdfsbase: { id: 57, domain: 'cpu' }, // and rdgsbase
  wrfsbase: { id: 58, domain: 'cpu' }, // and wrgsbase
  rsm: { id: 59, domain: 'cpu' },
  // Port I/O.
  in: { id: 64, domain: 'portio' },
  out: { id: 65, domain: 'portio' },
  ins: { id: 66, domain: 'portio' }, // with or without rep
  outs: { id: 67, domain: 'portio' },
  // Device registers and page tables in memory.
  mmio_read: { id: 80, domain: 'mmio' },
  mmio_write: { id: 81, domain: 'mmio' },
  pagetable_read: { id: 88, domain: 'pagetable' },
  pagetable_write: { id: 89, domain: 'pagetable' },
  // What the kernel does with its modules: an instruction that does nothing, at the entry of a function.
  module_load: { id: 112, domain: 'cpu' }, // placed and relocated, nothing of it has run
  module_init_freed: { id: 113, domain: 'cpu' }, // its initialization sections go away
  module_unload: { id: 114, domain: 'cpu' }, // all of it does
  // User code's way into the kernel, in the vDSO.
  entry_int80: { id: 96, domain: 'entry' },
  entry_sysenter: { id: 97, domain: 'entry' },
  entry_syscall: { id: 98, domain: 'entry' },
} as const satisfies Record<string, { id: number; domain: DomainName }>;

export type SiteKindName = keyof typeof SITE_KINDS;

/** Kinds that are put where a rule file says, not found. */
export const ANNOUNCEMENTS = ['module_load', 'module_init_freed', 'module_unload'] as const;

export type Announcement = (typeof ANNOUNCEMENTS)[number];

/** What stands at an announcement's site: NOP with ModRM, SIB and an 8-bit displacement (SDM vol. 2B, NOP). */
export const ANNOUNCEMENT_BYTES: readonly number[] = [0x0f, 0x1f, 0x44, 0x00, 0x00];
