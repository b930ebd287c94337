/*
 * The emulator: control and debug registers, and what keeps the TLB.
 */

#include "crash.h"
#include "handlers.h"
#include "port.h"

static bool uses_pae(u32 cr0, u32 cr4) { return (cr0 & CR0_PG) && (cr4 & CR4_PAE); }

static enum outcome set_cr0(u32 value) {
    u32 changed = cpu.cr0 ^ value;
    if ((value & CR0_PG) && !(value & CR0_PE))
        return general_protection();
    if (!(value & CR0_PE))
        crash("CR0.PE cleared: real mode is not supported");
    if (uses_pae(value, cpu.cr4) && (changed & (CR0_PG | CR0_CD | CR0_NW)) && !mmu_load_pointers(cpu.cr3))
        return OUTCOME_FAULT;
    cpu.cr0 = value | CR0_ET;
    if (changed & CR0_PG)
        mmu_mode_changed();
    else if (changed & CR0_WP)
        mmu_flush(true);
    return OUTCOME_NEXT;
}

static enum outcome set_cr4(u32 value) {
    const u32 known = CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_VME | 2 | 0x100;
    u32 changed = cpu.cr4 ^ value;
    if (value & ~known)
        return general_protection();
    if (uses_pae(cpu.cr0, value) && (changed & (CR4_PAE | CR4_PGE | CR4_PSE)) && !mmu_load_pointers(cpu.cr3))
        return OUTCOME_FAULT;
    cpu.cr4 = value;
    if (changed & (CR4_PSE | CR4_PAE))
        mmu_mode_changed();
    else if (changed & CR4_PGE)
        mmu_flush(true);
    return OUTCOME_NEXT;
}

enum outcome do_mov_from_control(const struct instruction *i) {
    if (!is_kernel())
        return general_protection();
    switch (i->reg) {
    case 0: cpu.gpr[i->rm] = cpu.cr0; break;
    case 2: cpu.gpr[i->rm] = cpu.cr2; break;
    case 3: cpu.gpr[i->rm] = cpu.cr3; break;
    case 4: cpu.gpr[i->rm] = cpu.cr4; break;
    default: return undefined();
    }
    return OUTCOME_NEXT;
}

enum outcome emulate_mov_to_cr3(u32 value) {
    if (uses_pae(cpu.cr0, cpu.cr4) && !mmu_load_pointers(value))
        return OUTCOME_FAULT;
    cpu.cr3 = value;
    if (cpu.cr0 & CR0_PG)
        mmu_flush(false);
    return OUTCOME_NEXT;
}

enum outcome do_mov_to_control(const struct instruction *i) {
    u32 value = cpu.gpr[i->rm];
    if (!is_kernel())
        return general_protection();
    switch (i->reg) {
    case 0: return set_cr0(value);
    case 2: cpu.cr2 = value; return OUTCOME_NEXT;
    case 3: return emulate_mov_to_cr3(value);
    case 4: return set_cr4(value);
    default: return undefined();
    }
}

/* DR4 and DR5 are names of DR6 and DR7 unless CR4.DE is set. */
static bool debug_register(const struct instruction *i, unsigned *number) {
    *number = i->reg;
    if (*number == 4 || *number == 5) {
        if (cpu.cr4 & CR4_DE)
            return false;
        *number += 2;
    }
    return true;
}

enum outcome do_mov_from_debug(const struct instruction *i) {
    unsigned number;
    if (!is_kernel())
        return general_protection();
    if (!debug_register(i, &number))
        return undefined();
    cpu.gpr[i->rm] = cpu.dr[number];
    return OUTCOME_NEXT;
}

enum outcome do_mov_to_debug(const struct instruction *i) {
    unsigned number;
    u32 value = cpu.gpr[i->rm];
    if (!is_kernel())
        return general_protection();
    if (!debug_register(i, &number))
        return undefined();
    if (number == 6)
        value = (value & 0x0000e00f) | 0xffff0ff0;
    if (number == 7) {
        value = (value & 0xffff2fff) | 0x400;
        if (value & 0xff)
            port_warn("the guest enables hardware breakpoints, which do not work here");
    }
    cpu.dr[number] = value;
    return OUTCOME_NEXT;
}

enum outcome emulate_clts(void) {
    if (!is_kernel())
        return general_protection();
    cpu.cr0 &= ~(u32)CR0_TS;
    return OUTCOME_NEXT;
}

enum outcome do_clts(const struct instruction *i) {
    (void)i;
    return emulate_clts();
}

enum outcome do_lmsw(const struct instruction *i) {
    u32 value;
    if (!is_kernel())
        return general_protection();
    if (!read_rm(i, 2, &value))
        return OUTCOME_FAULT;
    /* Sets PE, MP, EM and TS; cannot clear PE. */
    return set_cr0((cpu.cr0 & ~0xeu) | (value & 0xf) | (cpu.cr0 & CR0_PE));
}

enum outcome do_smsw(const struct instruction *i) {
    if (i->memory) {
        return done(write_word_rm(i, cpu.cr0));
    }
    cpu_set_register(i->rm, i->operand_size, cpu.cr0);
    return OUTCOME_NEXT;
}

enum outcome do_invlpg(const struct instruction *i) {
    if (!is_kernel())
        return general_protection();
    mmu_invalidate_page(decode_address(i));
    return OUTCOME_NEXT;
}

enum outcome do_cache_control(const struct instruction *i) {
    (void)i;
    return is_kernel() ? OUTCOME_NEXT : general_protection(); /* invd, wbinvd: memory is coherent */
}
