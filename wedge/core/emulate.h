/*
 * The generic emulator: does what a sensitive instruction would have done on
 * the virtual CPU. It serves the sites that have no entry of their own, and
 * everything that traps.
 */
#ifndef PREVIRT_EMULATE_H
#define PREVIRT_EMULATE_H

#include "types.h"

enum outcome {
    OUTCOME_NEXT,      /* done; the instruction's end is next */
    OUTCOME_JUMPED,    /* done; cpu.eip is where to go on */
    OUTCOME_ENTERED,   /* the same for INT n: TF is clear then, and no #DB follows (SDM vol. 3B, 17.3.1.4) */
    OUTCOME_FAULT,     /* `exception` is to be delivered at the instruction's start */
    OUTCOME_REPEAT,    /* a rep instruction stopped half-way: the same instruction again */
    OUTCOME_UNKNOWN,   /* not a sensitive instruction */
};

/*
 * Emulates the instruction in `bytes` at cpu.eip. `length` is the number of
 * bytes up to the next instruction, 0 for the instruction's own length.
 * On return cpu.eip is right for every outcome, exceptions delivered.
 */
enum outcome emulate(const u8 *bytes, unsigned count, unsigned length);

/* Single operations, for the entries that know their kind. */
enum outcome emulate_iret(unsigned size);
enum outcome emulate_hlt(void);
enum outcome emulate_cpuid(void);
enum outcome emulate_rdtsc(void);
enum outcome emulate_rdtscp(void);
enum outcome emulate_rdmsr(void);
enum outcome emulate_wrmsr(void);
enum outcome emulate_xgetbv(void);
enum outcome emulate_xsetbv(void);
/* Set for a guest that has run elsewhere before. */
extern bool guest_came;

/* What the guest knows of its processor (FEATURE_WORDS of them): at most what the host has and `words` allow. */
void cpu_features(u32 *words);
/* `strict`: the guest has seen them all already; false if the host lacks one, and whoever runs it has been told. */
bool cpu_limit_features(const u32 *words, bool strict);
enum outcome emulate_clts(void);
enum outcome emulate_popf(unsigned size);
enum outcome emulate_mov_to_cr3(u32 value);
/* Port I/O through DX and the accumulator; checks IOPL and the I/O permission bitmap. */
enum outcome emulate_in(u16 port, unsigned size);
enum outcome emulate_out(u16 port, unsigned size);

/*
 * Brings cpu.eip to where the outcome says, `next` being the end of the
 * instruction that started at cpu.eip, and delivers a fault or a single-step trap.
 * `stepping` is the guest's TF before the instruction.
 */
void emulate_finish(enum outcome outcome, u32 next, bool stepping);

/* --- What a target provides --- */

/* The guest loads GDTR or IDTR. */
void port_tables_changed(void);
/* The host's view of CPUID, and its time-stamp counter. */
void port_cpuid(u32 leaf, u32 subleaf, u32 registers[4]);
u64 port_tsc(void);

#endif
