/*
 * The emulator: segment registers and far transfers.
 */

#include "handlers.h"

/* --- Segment registers --- */

static enum outcome load_segment(unsigned which, u16 selector) {
    if (!cpu_load_segment(which, selector))
        return OUTCOME_FAULT;
    if (which == SS)
        cpu.shadow = 1;
    return OUTCOME_NEXT;
}

enum outcome do_mov_to_segment(const struct instruction *i) {
    u32 selector;
    if (i->reg == CS || i->reg > GS)
        return undefined();
    if (!read_rm(i, 2, &selector))
        return OUTCOME_FAULT;
    return load_segment(i->reg, selector);
}

enum outcome do_mov_from_segment(const struct instruction *i) {
    if (i->reg > GS)
        return undefined();
    return done(write_word_rm(i, cpu.segments[i->reg].selector));
}

/* push and pop: the register is in bits 3-5 of the opcode in both maps. */
enum outcome do_push_segment(const struct instruction *i) {
    return done(push(cpu.segments[i->opcode >> 3 & 7].selector, i->operand_size));
}

enum outcome do_pop_segment(const struct instruction *i) {
    u32 selector;
    if (!peek(&selector, i->operand_size))
        return OUTCOME_FAULT;
    enum outcome outcome = load_segment(i->opcode >> 3 & 7, selector);
    if (outcome == OUTCOME_NEXT)
        cpu.gpr[ESP] += i->operand_size;
    return outcome;
}

static bool read_far_pointer(const struct instruction *i, u32 *offset, u32 *selector) {
    gva_t at = decode_address(i);
    *offset = *selector = 0;
    return guest_read(at, offset, i->operand_size, user_access()) &&
           guest_read(gva(at.value + i->operand_size), selector, 2, user_access());
}

static enum outcome load_far_pointer(const struct instruction *i, enum segment_register which) {
    u32 offset, selector;
    if (!i->memory)
        return undefined();
    if (!read_far_pointer(i, &offset, &selector))
        return OUTCOME_FAULT;
    enum outcome outcome = load_segment(which, selector);
    if (outcome == OUTCOME_NEXT)
        cpu_set_register(i->reg, i->operand_size, offset);
    return outcome;
}

enum outcome do_les(const struct instruction *i) { return load_far_pointer(i, ES); }
enum outcome do_lds(const struct instruction *i) { return load_far_pointer(i, DS); }
enum outcome do_lss(const struct instruction *i) { return load_far_pointer(i, SS); }
enum outcome do_lfs(const struct instruction *i) { return load_far_pointer(i, FS); }
enum outcome do_lgs(const struct instruction *i) { return load_far_pointer(i, GS); }

/* --- Far transfers; cpu.eip is the instruction's start, its end is pushed --- */

static enum outcome far_call(const struct instruction *i, u16 selector, u32 offset) {
    u32 start = cpu.eip;
    cpu.eip += i->length;
    if (cpu_far_call(selector, offset, i->operand_size))
        return OUTCOME_JUMPED;
    cpu.eip = start;
    return OUTCOME_FAULT;
}

enum outcome do_far_call(const struct instruction *i) { return far_call(i, i->selector, i->immediate); }

enum outcome do_far_jump(const struct instruction *i) {
    return jumped(cpu_far_jump(i->selector, i->immediate));
}

/* Group 5: /3 is a far call, /5 a far jump through memory. */
enum outcome do_group_5(const struct instruction *i) {
    u32 offset, selector;
    if ((i->reg != 3 && i->reg != 5) || !i->memory)
        return OUTCOME_UNKNOWN;
    if (!read_far_pointer(i, &offset, &selector))
        return OUTCOME_FAULT;
    return i->reg == 3 ? far_call(i, selector, offset) : jumped(cpu_far_jump(selector, offset));
}

enum outcome do_far_return(const struct instruction *i) {
    return jumped(cpu_far_return(i->operand_size, i->opcode == 0xca ? i->immediate : 0));
}

enum outcome do_interrupt(const struct instruction *i) {
    u32 start = cpu.eip;
    cpu.eip += i->length;
    if (cpu_software_interrupt(i->immediate))
        return OUTCOME_ENTERED;
    cpu.eip = start;
    return OUTCOME_FAULT;
}

enum outcome do_sysenter(const struct instruction *i) {
    (void)i;
    return jumped(cpu_sysenter());
}

enum outcome do_sysexit(const struct instruction *i) {
    (void)i;
    return jumped(cpu_sysexit());
}
