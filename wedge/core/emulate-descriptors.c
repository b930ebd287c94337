/*
 * The emulator: descriptors, and the tables that they are in.
 */

#include "handlers.h"

static void set_zero_flag(bool set) { cpu.eflags = set ? cpu.eflags | FLAG_ZF : cpu.eflags & ~(u32)FLAG_ZF; }

/*
 * The descriptor that lar, lsl, verr and verw look at, and whether the current
 * level may see it. False with an exception raised.
 */
static bool find_descriptor(const struct instruction *i, u32 *selector, u32 words[2], bool *visible) {
    *visible = false;
    if (!read_rm(i, 2, selector))
        return false;
    if (!(*selector & ~3u))
        return true;
    if (!cpu_read_descriptor(*selector, words))
        return exception.vector != VECTOR_PF;
    u32 attributes = words[1] >> 8;
    bool conforming = (attributes & (ATTR_S | ATTR_CODE | ATTR_CONFORMING)) == (ATTR_S | ATTR_CODE | ATTR_CONFORMING);
    *visible = conforming || (cpu.cpl <= dpl(attributes) && (*selector & 3u) <= dpl(attributes));
    return true;
}

static enum outcome verify(const struct instruction *i, bool write) {
    u32 selector, words[2];
    bool visible;
    if (!find_descriptor(i, &selector, words, &visible))
        return OUTCOME_FAULT;
    u32 attributes = visible ? words[1] >> 8 : 0;
    bool code = attributes & ATTR_CODE;
    bool allowed = write ? !code && (attributes & ATTR_WRITABLE) : !code || (attributes & ATTR_READABLE);
    set_zero_flag(visible && (attributes & ATTR_S) && allowed);
    return OUTCOME_NEXT;
}

/* System descriptor types that lar and lsl accept (SDM vol. 2, LAR, LSL). */
#define LAR_TYPES (1u << 1 | 1u << 2 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 9 | 1u << 11 | 1u << 12)
#define LSL_TYPES (1u << 1 | 1u << 2 | 1u << 3 | 1u << 9 | 1u << 11)

static enum outcome load_descriptor_part(const struct instruction *i, u32 types, bool limit) {
    u32 selector, words[2];
    bool visible;
    if (!find_descriptor(i, &selector, words, &visible))
        return OUTCOME_FAULT;
    if (visible && !(words[1] & ATTR_S << 8))
        visible = types >> (words[1] >> 8 & ATTR_TYPE) & 1;
    set_zero_flag(visible);
    if (!visible)
        return OUTCOME_NEXT;
    u32 value = words[1] & 0x00f0ff00; /* the limit's bits between are undefined (SDM vol. 2, LAR) */
    if (limit) {
        struct segment segment;
        cpu_set_segment(&segment, selector, words);
        value = segment.limit;
    }
    cpu_set_register(i->reg, i->operand_size, value);
    return OUTCOME_NEXT;
}

enum outcome do_lar(const struct instruction *i) { return load_descriptor_part(i, LAR_TYPES, false); }
enum outcome do_lsl(const struct instruction *i) { return load_descriptor_part(i, LSL_TYPES, true); }

enum outcome do_arpl(const struct instruction *i) {
    u32 to, from = cpu_register(i->reg, 2);
    if (!read_rm(i, 2, &to))
        return OUTCOME_FAULT;
    bool adjust = (to & 3) < (from & 3);
    if (adjust) {
        to = (to & ~3u) | (from & 3);
        if (!i->memory)
            cpu_set_register(i->rm, 2, to);
        else if (!guest_write(decode_address(i), &to, 2, user_access()))
            return OUTCOME_FAULT;
    }
    set_zero_flag(adjust);
    return OUTCOME_NEXT;
}

enum outcome do_group_6(const struct instruction *i) {
    u32 selector;
    switch (i->reg) {
    case 0: return done(write_word_rm(i, cpu.ldtr.selector));
    case 1: return done(write_word_rm(i, cpu.tr.selector));
    case 2:
    case 3:
        if (!is_kernel())
            return general_protection();
        if (!read_rm(i, 2, &selector))
            return OUTCOME_FAULT;
        port_tables_changed();
        return done(i->reg == 2 ? cpu_load_ldtr(selector) : cpu_load_tr(selector));
    case 4: return verify(i, false);
    case 5: return verify(i, true);
    default: return undefined();
    }
}

static enum outcome store_table(const struct instruction *i, const struct table_register *table) {
    gva_t at = decode_address(i);
    u16 limit = table->limit;
    return done(guest_write(at, &limit, 2, user_access()) &&
                guest_write(gva(at.value + 2), &table->base, 4, user_access()));
}

static enum outcome load_table(const struct instruction *i, struct table_register *table) {
    gva_t at = decode_address(i);
    u16 limit;
    u32 base;
    if (!is_kernel())
        return general_protection();
    if (!guest_read(at, &limit, 2, 0) || !guest_read(gva(at.value + 2), &base, 4, 0))
        return OUTCOME_FAULT;
    port_tables_changed();
    *table = (struct table_register){.base = i->operand_size == 2 ? base & 0xffffff : base, .limit = limit};
    return OUTCOME_NEXT;
}

enum outcome do_sgdt(const struct instruction *i) { return store_table(i, &cpu.gdtr); }
enum outcome do_sidt(const struct instruction *i) { return store_table(i, &cpu.idtr); }
enum outcome do_lgdt(const struct instruction *i) { return load_table(i, &cpu.gdtr); }
enum outcome do_lidt(const struct instruction *i) { return load_table(i, &cpu.idtr); }
