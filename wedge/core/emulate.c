/*
 * The generic emulator: two tables of handlers, by opcode. They are in
 * emulate-*.c and cpuid.c, by what they work on.
 * Privilege checks are those of the SDM, vol. 2: sites of the kernel pass them,
 * user code that trapped may not.
 */

#include "emulate.h"

#include "crash.h"
#include "handlers.h"

/* --- Operands --- */

bool read_rm(const struct instruction *i, unsigned size, u32 *value) {
    *value = 0;
    if (!i->memory) {
        *value = cpu_register(i->rm, size);
        return true;
    }
    return guest_read(decode_address(i), value, size, user_access());
}

bool write_word_rm(const struct instruction *i, u32 value) {
    if (!i->memory) {
        cpu_set_register(i->rm, i->operand_size, value);
        return true;
    }
    return guest_write(decode_address(i), &value, 2, user_access());
}

static u32 stack_address(u32 esp) { return cpu.segments[SS].base + esp; }

bool push(u32 value, unsigned size) {
    u32 esp = cpu.gpr[ESP] - size;
    if (!guest_write(gva(stack_address(esp)), &value, size, user_access()))
        return false;
    cpu.gpr[ESP] = esp;
    return true;
}

bool peek(u32 *value, unsigned size) {
    *value = 0;
    return guest_read(gva(stack_address(cpu.gpr[ESP])), value, size, user_access());
}

/* --- Group 7: by /reg for memory, by the whole ModRM byte for registers --- */

static handler *const group_7_memory[8] = {
    do_sgdt, do_sidt, do_lgdt, do_lidt, do_smsw, NULL, do_lmsw, do_invlpg,
};

static enum outcome do_group_7(const struct instruction *i) {
    if (i->memory)
        return group_7_memory[i->reg] ? group_7_memory[i->reg](i) : undefined();
    switch (i->reg << 3 | i->rm) {
    case 1 << 3 | 0: /* monitor, mwait: not announced by CPUID */
    case 1 << 3 | 1:
    case 1 << 3 | 2: /* clac, stac: nor SMAP */
    case 1 << 3 | 3: return undefined();
    case 2 << 3 | 0: return emulate_xgetbv();
    case 2 << 3 | 1: return emulate_xsetbv();
    case 7 << 3 | 1: return emulate_rdtscp();
    }
    switch (i->reg) {
    case 4: return do_smsw(i);
    case 6: return do_lmsw(i);
    default: return undefined();
    }
}

static enum outcome do_invpcid(const struct instruction *i) {
    (void)i;
    return undefined(); /* not announced by CPUID, though the host may have it */
}

/* --- The tables --- */

static handler *const one_byte[256] = {
    [0x06] = do_push_segment, [0x07] = do_pop_segment,
    [0x0e] = do_push_segment,
    [0x16] = do_push_segment, [0x17] = do_pop_segment,
    [0x1e] = do_push_segment, [0x1f] = do_pop_segment,
    [0x63] = do_arpl,
    [0x6c] = do_string_io, [0x6d] = do_string_io,
    [0x6e] = do_string_io, [0x6f] = do_string_io,
    [0x8c] = do_mov_from_segment, [0x8e] = do_mov_to_segment,
    [0x9a] = do_far_call,
    [0x9c] = do_pushf, [0x9d] = do_popf,
    [0xc4] = do_les, [0xc5] = do_lds,
    [0xca] = do_far_return, [0xcb] = do_far_return,
    [0xcd] = do_interrupt, [0xcf] = do_iret,
    [0xe4] = do_in_immediate, [0xe5] = do_in_immediate,
    [0xe6] = do_out_immediate, [0xe7] = do_out_immediate,
    [0xea] = do_far_jump,
    [0xec] = do_in_dx, [0xed] = do_in_dx,
    [0xee] = do_out_dx, [0xef] = do_out_dx,
    [0xf4] = do_hlt,
    [0xfa] = do_cli, [0xfb] = do_sti,
    [0xff] = do_group_5,
};

static handler *const two_byte[256] = {
    [0x00] = do_group_6, [0x01] = do_group_7,
    [0x02] = do_lar, [0x03] = do_lsl,
    [0x06] = do_clts,
    [0x08] = do_cache_control, [0x09] = do_cache_control,
    [0x20] = do_mov_from_control, [0x21] = do_mov_from_debug,
    [0x22] = do_mov_to_control, [0x23] = do_mov_to_debug,
    [0x30] = do_wrmsr, [0x31] = do_rdtsc,
    [0x32] = do_rdmsr, [0x33] = do_rdpmc,
    [0x34] = do_sysenter, [0x35] = do_sysexit,
    [0xa0] = do_push_segment, [0xa1] = do_pop_segment,
    [0xa2] = do_cpuid,
    [0xa8] = do_push_segment, [0xa9] = do_pop_segment,
    [0xb2] = do_lss, [0xb4] = do_lfs, [0xb5] = do_lgs,
};

void emulate_finish(enum outcome outcome, u32 next, bool stepping) {
    switch (outcome) {
    case OUTCOME_NEXT: cpu.eip = next; break;
    case OUTCOME_JUMPED: break;
    case OUTCOME_ENTERED: return;
    case OUTCOME_REPEAT: break;
    case OUTCOME_FAULT: {
        struct exception cause = exception;
        cpu_deliver_exception(&cause);
        return;
    }
    case OUTCOME_UNKNOWN: crash("an instruction at %x that the emulator does not know", cpu.eip);
    }
    if (stepping) {
        cpu.dr[6] |= 1u << 14; /* BS */
        cpu_deliver_exception(&(struct exception){.vector = VECTOR_DB});
    }
}

static handler *find_handler(const struct instruction *i) {
    switch (i->map) {
    case 0: return one_byte[i->opcode];
    case 1: return two_byte[i->opcode];
    case 2: return i->opcode == 0x82 ? do_invpcid : NULL;
    default: return NULL;
    }
}

enum outcome emulate(const u8 *bytes, unsigned count, unsigned length) {
    struct instruction instruction;
    bool stepping = cpu_flags() & FLAG_TF;
    if (!decode(bytes, count, &instruction))
        return OUTCOME_UNKNOWN;
    if (length)
        instruction.length = length;
    handler *handle = find_handler(&instruction);
    if (!handle)
        return OUTCOME_UNKNOWN;
    u32 next = cpu.eip + instruction.length;
    enum outcome outcome = handle(&instruction);
    if (outcome != OUTCOME_UNKNOWN)
        emulate_finish(outcome, next, stepping);
    return outcome;
}
