/*
 * The emulator: flags, and what waits for an interrupt or returns from one.
 */

#include "handlers.h"

static bool may_change_if(void) { return cpu.cpl <= cpu_iopl(); }

enum outcome do_cli(const struct instruction *i) {
    (void)i;
    if (!may_change_if())
        return general_protection();
    cpu.interrupt_flag = 0;
    return OUTCOME_NEXT;
}

enum outcome do_sti(const struct instruction *i) {
    (void)i;
    if (!may_change_if())
        return general_protection();
    if (!cpu.interrupt_flag)
        cpu.shadow = 1;
    cpu.interrupt_flag = FLAG_IF;
    return OUTCOME_NEXT;
}

enum outcome do_pushf(const struct instruction *i) {
    return done(push(cpu_flags() & ~(u32)(FLAG_VM | FLAG_RF), i->operand_size));
}

enum outcome emulate_popf(unsigned size) {
    u32 value;
    if (!peek(&value, size))
        return OUTCOME_FAULT;
    cpu.gpr[ESP] += size;
    u32 mask = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_TF | FLAG_DF | FLAG_OF | FLAG_NT;
    if (size == 4)
        mask |= FLAG_AC | FLAG_ID;
    if (may_change_if())
        mask |= FLAG_IF;
    if (is_kernel())
        mask |= FLAG_IOPL;
    cpu_set_flags((cpu_flags() & ~mask & ~(u32)FLAG_RF) | (value & mask));
    return OUTCOME_NEXT;
}

enum outcome do_popf(const struct instruction *i) { return emulate_popf(i->operand_size); }

enum outcome emulate_iret(unsigned size) { return jumped(cpu_iret(size)); }

enum outcome do_iret(const struct instruction *i) { return emulate_iret(i->operand_size); }

enum outcome emulate_hlt(void) {
    if (!is_kernel())
        return general_protection();
    cpu.halted = 1;
    return OUTCOME_NEXT;
}

enum outcome do_hlt(const struct instruction *i) {
    (void)i;
    return emulate_hlt();
}
