/*
 * What the parts of the emulator share. A handler does one decoded instruction
 * that starts at cpu.eip. It checks before it changes anything, so that after a
 * fault nothing has happened.
 */
#ifndef PREVIRT_HANDLERS_H
#define PREVIRT_HANDLERS_H

#include "mmu/mmu.h"
#include "cpu.h"
#include "decode.h"
#include "emulate.h"

typedef enum outcome handler(const struct instruction *);

/* emulate-flags.c */
handler do_cli, do_sti, do_pushf, do_popf, do_iret, do_hlt;
/* emulate-ports.c */
handler do_in_dx, do_out_dx, do_in_immediate, do_out_immediate, do_string_io;
/* emulate-segments.c */
handler do_mov_to_segment, do_mov_from_segment, do_push_segment, do_pop_segment;
handler do_les, do_lds, do_lss, do_lfs, do_lgs;
handler do_far_call, do_far_jump, do_group_5, do_far_return, do_interrupt, do_sysenter, do_sysexit;
/* emulate-descriptors.c */
handler do_lar, do_lsl, do_arpl, do_group_6, do_sgdt, do_sidt, do_lgdt, do_lidt;
/* emulate-control.c */
handler do_mov_from_control, do_mov_to_control, do_mov_from_debug, do_mov_to_debug;
handler do_clts, do_lmsw, do_smsw, do_invlpg, do_cache_control;
/* emulate-msr.c, cpuid.c */
handler do_rdtsc, do_rdmsr, do_wrmsr, do_rdpmc, do_cpuid;

/* --- Outcomes --- */

static inline enum outcome fault(enum vector vector, u32 error) {
    raise(vector, error);
    return OUTCOME_FAULT;
}

static inline enum outcome general_protection(void) { return fault(VECTOR_GP, 0); }

static inline enum outcome undefined(void) {
    raise_plain(VECTOR_UD);
    return OUTCOME_FAULT;
}

static inline enum outcome done(bool success) { return success ? OUTCOME_NEXT : OUTCOME_FAULT; }

static inline enum outcome jumped(bool success) { return success ? OUTCOME_JUMPED : OUTCOME_FAULT; }

/* --- Who asks --- */

static inline access_t user_access(void) { return cpu.cpl == 3 ? PF_USER : 0; }

static inline bool is_kernel(void) { return cpu.cpl == 0; }

/* --- Operands; false with an exception raised --- */

/* A register or memory, zero-extended. */
bool read_rm(const struct instruction *i, unsigned size, u32 *value);
/* A store of a selector or status word: 16 bits to memory, zero-extended to a register. */
bool write_word_rm(const struct instruction *i, u32 value);
bool push(u32 value, unsigned size);
/* Reads the top of the stack; the caller moves ESP once nothing can fault any more. */
bool peek(u32 *value, unsigned size);

#endif
