/*
 * The generic emulator: two tables of handlers, by opcode.
 * Privilege checks are those of the SDM, vol. 2: sites of the kernel pass them,
 * user code that trapped may not.
 */

#include "emulate.h"

#include "devices/devices.h"
#include "mmu/mmu.h"
#include "cpu.h"
#include "crash.h"
#include "decode.h"
#include "port.h"

#include "generated/machine-state.h"

typedef enum outcome handler(const struct instruction *);

static access_t user_access(void) { return cpu.cpl == 3 ? PF_USER : 0; }

static enum outcome fault(enum vector vector, u32 error) {
    raise(vector, error);
    return OUTCOME_FAULT;
}

static enum outcome general_protection(void) { return fault(VECTOR_GP, 0); }

static enum outcome undefined(void) {
    raise_plain(VECTOR_UD);
    return OUTCOME_FAULT;
}

static enum outcome done(bool success) { return success ? OUTCOME_NEXT : OUTCOME_FAULT; }

static enum outcome jumped(bool success) { return success ? OUTCOME_JUMPED : OUTCOME_FAULT; }

/* --- Operands --- */

static bool read_rm(const struct instruction *i, unsigned size, u32 *value) {
    *value = 0;
    if (!i->memory) {
        *value = cpu_register(i->rm, size);
        return true;
    }
    return guest_read(decode_address(i), value, size, user_access());
}

/* A store of a selector or status word: 16 bits to memory, zero-extended to a register. */
static bool write_word_rm(const struct instruction *i, u32 value) {
    if (!i->memory) {
        cpu_set_register(i->rm, i->operand_size, value);
        return true;
    }
    return guest_write(decode_address(i), &value, 2, user_access());
}

static u32 stack_address(u32 esp) { return cpu.segments[SS].base + esp; }

static bool push(u32 value, unsigned size) {
    u32 esp = cpu.gpr[ESP] - size;
    if (!guest_write(gva(stack_address(esp)), &value, size, user_access()))
        return false;
    cpu.gpr[ESP] = esp;
    return true;
}

/* Reads the top of the stack; the caller moves ESP once nothing can fault any more. */
static bool peek(u32 *value, unsigned size) {
    *value = 0;
    return guest_read(gva(stack_address(cpu.gpr[ESP])), value, size, user_access());
}

static bool is_kernel(void) { return cpu.cpl == 0; }

/* --- The interrupt flag --- */

static bool may_change_if(void) { return cpu.cpl <= cpu_iopl(); }

static enum outcome do_cli(const struct instruction *i) {
    (void)i;
    if (!may_change_if())
        return general_protection();
    cpu.interrupt_flag = 0;
    return OUTCOME_NEXT;
}

static enum outcome do_sti(const struct instruction *i) {
    (void)i;
    if (!may_change_if())
        return general_protection();
    if (!cpu.interrupt_flag)
        cpu.shadow = 1;
    cpu.interrupt_flag = FLAG_IF;
    return OUTCOME_NEXT;
}

static enum outcome do_pushf(const struct instruction *i) {
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

static enum outcome do_popf(const struct instruction *i) { return emulate_popf(i->operand_size); }

enum outcome emulate_iret(unsigned size) { return jumped(cpu_iret(size)); }

static enum outcome do_iret(const struct instruction *i) { return emulate_iret(i->operand_size); }

enum outcome emulate_hlt(void) {
    if (!is_kernel())
        return general_protection();
    cpu.halted = 1;
    return OUTCOME_NEXT;
}

static enum outcome do_hlt(const struct instruction *i) {
    (void)i;
    return emulate_hlt();
}

/* --- Ports --- */

/* The I/O permission bitmap (SDM vol. 1, 19.5.2). */
static bool port_permitted(u16 port, unsigned size) {
    if (cpu.cpl <= cpu_iopl())
        return true;
    u16 map, bits;
    if (!(cpu.tr.attributes & 8) || cpu.tr.limit < 103)
        return raise(VECTOR_GP, 0);
    if (!guest_read(gva(cpu.tr.base + 102), &map, 2, 0))
        return false;
    if (map + port / 8u + 1 > cpu.tr.limit)
        return raise(VECTOR_GP, 0);
    if (!guest_read(gva(cpu.tr.base + map + port / 8u), &bits, 2, 0))
        return false;
    if (bits >> port % 8 & ((1u << size) - 1))
        return raise(VECTOR_GP, 0);
    return true;
}

enum outcome emulate_in(u16 port, unsigned size) {
    if (!port_permitted(port, size))
        return OUTCOME_FAULT;
    cpu_set_register(EAX, size, devices_in(port, size));
    return OUTCOME_NEXT;
}

enum outcome emulate_out(u16 port, unsigned size) {
    if (!port_permitted(port, size))
        return OUTCOME_FAULT;
    devices_out(port, size, cpu_register(EAX, size));
    return OUTCOME_NEXT;
}

/* Bit 0 of the opcode chooses between a byte and the operand size. */
static unsigned io_size(const struct instruction *i) { return i->opcode & 1 ? i->operand_size : 1; }

static enum outcome do_in_dx(const struct instruction *i) { return emulate_in(cpu.gpr[EDX], io_size(i)); }
static enum outcome do_out_dx(const struct instruction *i) { return emulate_out(cpu.gpr[EDX], io_size(i)); }
static enum outcome do_in_immediate(const struct instruction *i) { return emulate_in(i->immediate, io_size(i)); }
static enum outcome do_out_immediate(const struct instruction *i) { return emulate_out(i->immediate, io_size(i)); }

/*
 * ins and outs, one element at a time so that a fault leaves exactly the
 * progress that hardware would. A long one gives way to interrupts in between.
 */
static enum outcome do_string_io(const struct instruction *i) {
    const u32 batch = cpu_flags() & FLAG_TF ? 1 : 4096; /* single-stepping stops at every element */
    bool input = !(i->opcode & 2);
    unsigned size = io_size(i);
    u32 step = cpu.eflags & FLAG_DF ? -size : size;
    u32 mask = i->address_size == 2 ? 0xffff : 0xffffffff;
    u32 *index = &cpu.gpr[input ? EDI : ESI];
    u32 base = cpu.segments[input ? ES : i->segment].base;
    for (u32 n = 0;; n++) {
        if (i->repeat && !(cpu.gpr[ECX] & mask))
            return OUTCOME_NEXT;
        if (n == batch)
            return OUTCOME_REPEAT;
        if (!port_permitted(cpu.gpr[EDX], size))
            return OUTCOME_FAULT;
        gva_t at = gva(base + (*index & mask));
        u32 value = 0;
        if (input) {
            /* The rights first: a device register may not be read in vain. */
            if (!mmu_pointer(at, PF_WRITE | user_access()))
                return OUTCOME_FAULT;
            value = devices_in(cpu.gpr[EDX], size);
            if (!guest_write(at, &value, size, user_access()))
                return OUTCOME_FAULT;
        } else {
            if (!guest_read(at, &value, size, user_access()))
                return OUTCOME_FAULT;
            devices_out(cpu.gpr[EDX], size, value);
        }
        *index = (*index & ~mask) | ((*index + step) & mask);
        if (!i->repeat)
            return OUTCOME_NEXT;
        cpu.gpr[ECX] = (cpu.gpr[ECX] & ~mask) | ((cpu.gpr[ECX] - 1) & mask);
    }
}

/* --- Segment registers --- */

static enum outcome load_segment(unsigned which, u16 selector) {
    if (!cpu_load_segment(which, selector))
        return OUTCOME_FAULT;
    if (which == SS)
        cpu.shadow = 1;
    return OUTCOME_NEXT;
}

static enum outcome do_mov_to_segment(const struct instruction *i) {
    u32 selector;
    if (i->reg == CS || i->reg > GS)
        return undefined();
    if (!read_rm(i, 2, &selector))
        return OUTCOME_FAULT;
    return load_segment(i->reg, selector);
}

static enum outcome do_mov_from_segment(const struct instruction *i) {
    if (i->reg > GS)
        return undefined();
    return done(write_word_rm(i, cpu.segments[i->reg].selector));
}

/* push and pop: the register is in bits 3-5 of the opcode in both maps. */
static enum outcome do_push_segment(const struct instruction *i) {
    return done(push(cpu.segments[i->opcode >> 3 & 7].selector, i->operand_size));
}

static enum outcome do_pop_segment(const struct instruction *i) {
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

static enum outcome do_les(const struct instruction *i) { return load_far_pointer(i, ES); }
static enum outcome do_lds(const struct instruction *i) { return load_far_pointer(i, DS); }
static enum outcome do_lss(const struct instruction *i) { return load_far_pointer(i, SS); }
static enum outcome do_lfs(const struct instruction *i) { return load_far_pointer(i, FS); }
static enum outcome do_lgs(const struct instruction *i) { return load_far_pointer(i, GS); }

/* --- Far transfers; cpu.eip is the instruction's start, its end is pushed --- */

static enum outcome far_call(const struct instruction *i, u16 selector, u32 offset) {
    u32 start = cpu.eip;
    cpu.eip += i->length;
    if (cpu_far_call(selector, offset, i->operand_size))
        return OUTCOME_JUMPED;
    cpu.eip = start;
    return OUTCOME_FAULT;
}

static enum outcome do_far_call(const struct instruction *i) { return far_call(i, i->selector, i->immediate); }

static enum outcome do_far_jump(const struct instruction *i) {
    return jumped(cpu_far_jump(i->selector, i->immediate));
}

/* Group 5: /3 is a far call, /5 a far jump through memory. */
static enum outcome do_group_5(const struct instruction *i) {
    u32 offset, selector;
    if ((i->reg != 3 && i->reg != 5) || !i->memory)
        return OUTCOME_UNKNOWN;
    if (!read_far_pointer(i, &offset, &selector))
        return OUTCOME_FAULT;
    return i->reg == 3 ? far_call(i, selector, offset) : jumped(cpu_far_jump(selector, offset));
}

static enum outcome do_far_return(const struct instruction *i) {
    return jumped(cpu_far_return(i->operand_size, i->opcode == 0xca ? i->immediate : 0));
}

static enum outcome do_interrupt(const struct instruction *i) {
    u32 start = cpu.eip;
    cpu.eip += i->length;
    if (cpu_software_interrupt(i->immediate))
        return OUTCOME_JUMPED;
    cpu.eip = start;
    return OUTCOME_FAULT;
}

static enum outcome do_sysenter(const struct instruction *i) {
    (void)i;
    return jumped(cpu_sysenter());
}

static enum outcome do_sysexit(const struct instruction *i) {
    (void)i;
    return jumped(cpu_sysexit());
}

/* --- Descriptor tables --- */

static void set_zero_flag(bool set) { cpu.eflags = set ? cpu.eflags | FLAG_ZF : cpu.eflags & ~(u32)FLAG_ZF; }

/*
 * The descriptor that lar, lsl, verr and verw look at, if the current level may
 * see it. False without an exception means "not visible"; *faulted tells.
 */
static bool visible_descriptor(u16 selector, u32 words[2], bool *faulted) {
    *faulted = false;
    if (!(selector & ~3u))
        return false;
    if (!cpu_read_descriptor(selector, words)) {
        *faulted = exception.vector == VECTOR_PF;
        return false;
    }
    u32 attributes = words[1] >> 8;
    bool conforming = (attributes & (ATTR_S | ATTR_CODE | ATTR_CONFORMING)) == (ATTR_S | ATTR_CODE | ATTR_CONFORMING);
    return conforming || (cpu.cpl <= dpl(attributes) && (selector & 3u) <= dpl(attributes));
}

static enum outcome verify(const struct instruction *i, bool write) {
    u32 selector, words[2];
    bool faulted;
    if (!read_rm(i, 2, &selector))
        return OUTCOME_FAULT;
    bool visible = visible_descriptor(selector, words, &faulted);
    if (faulted)
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
    bool faulted;
    if (!read_rm(i, 2, &selector))
        return OUTCOME_FAULT;
    bool visible = visible_descriptor(selector, words, &faulted);
    if (faulted)
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

static enum outcome do_lar(const struct instruction *i) { return load_descriptor_part(i, LAR_TYPES, false); }
static enum outcome do_lsl(const struct instruction *i) { return load_descriptor_part(i, LSL_TYPES, true); }

static enum outcome do_arpl(const struct instruction *i) {
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

static enum outcome do_group_6(const struct instruction *i) {
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

/* --- Control and debug registers --- */

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

static enum outcome do_mov_from_control(const struct instruction *i) {
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

static enum outcome do_mov_to_control(const struct instruction *i) {
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

static enum outcome do_mov_from_debug(const struct instruction *i) {
    unsigned number;
    if (!is_kernel())
        return general_protection();
    if (!debug_register(i, &number))
        return undefined();
    cpu.gpr[i->rm] = cpu.dr[number];
    return OUTCOME_NEXT;
}

static enum outcome do_mov_to_debug(const struct instruction *i) {
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

static enum outcome do_clts(const struct instruction *i) {
    (void)i;
    return emulate_clts();
}

static enum outcome do_lmsw(const struct instruction *i) {
    u32 value;
    if (!is_kernel())
        return general_protection();
    if (!read_rm(i, 2, &value))
        return OUTCOME_FAULT;
    /* Sets PE, MP, EM and TS; cannot clear PE. */
    return set_cr0((cpu.cr0 & ~0xeu) | (value & 0xf) | (cpu.cr0 & CR0_PE));
}

static enum outcome do_smsw(const struct instruction *i) {
    if (i->memory) {
        return done(write_word_rm(i, cpu.cr0));
    }
    cpu_set_register(i->rm, i->operand_size, cpu.cr0);
    return OUTCOME_NEXT;
}

static enum outcome do_invlpg(const struct instruction *i) {
    if (!is_kernel())
        return general_protection();
    mmu_invalidate_page(decode_address(i));
    return OUTCOME_NEXT;
}

static enum outcome do_cache_control(const struct instruction *i) {
    (void)i;
    return is_kernel() ? OUTCOME_NEXT : general_protection(); /* invd, wbinvd: memory is coherent */
}

/* --- Identification and model-specific registers --- */

enum outcome emulate_rdtsc(void) {
    if ((cpu.cr4 & CR4_TSD) && !is_kernel())
        return general_protection();
    u64 value = port_tsc() + cpu.tsc_offset;
    cpu.gpr[EAX] = value;
    cpu.gpr[EDX] = value >> 32;
    return OUTCOME_NEXT;
}

static enum outcome do_rdtsc(const struct instruction *i) {
    (void)i;
    return emulate_rdtsc();
}

static bool have_rdtscp(void) {
    static bool asked, have;
    if (!asked) {
        u32 host[4];
        port_cpuid(0x80000001, 0, host);
        have = host[3] >> 27 & 1;
        asked = true;
    }
    return have;
}

enum outcome emulate_rdtscp(void) {
    if (!have_rdtscp())
        return undefined();
    enum outcome outcome = emulate_rdtsc();
    if (outcome == OUTCOME_NEXT)
        cpu.gpr[ECX] = cpu.tsc_aux;
    return outcome;
}

/*
 * Features that this virtual CPU has, as masks over what the host has: what
 * user code could use anyway, less what the guest kernel would have to manage
 * and cannot. Words that are not in the table read as zero.
 */
#define OSXSAVE (1u << 27) /* leaf 1, ECX */

static const struct {
    u32 leaf, subleaf; /* subleaf ~0: any */
    u32 eax, ebx, ecx, edx;
} cpuid_masks[] = {
    {0x00000000, ~0u, ~0u, ~0u, ~0u, ~0u},
    /*  SSE3 PCLMUL SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND;
        FPU DE PSE TSC MSR PAE CX8 PGE CMOV CLFSH MMX FXSR SSE SSE2 */
    {0x00000001, ~0u, ~0u, 0x0000ffff, 0x76d83203, 0x0788a17d},
    /*  BMI AVX2 BMI2 ERMS AVX512 RDSEED ADX CLFLUSHOPT CLWB SHA; VBMI GFNI VAES VNNI RDPID; FSRM */
    {0x00000007, 0, 0, 0xfdaf0328, 0x00405f42, 0x00000110},
    {0x0000000d, 0, ~0u, ~0u, ~0u, ~0u},
    {0x0000000d, 1, 0x5, 0, 0, 0}, /* XSAVEOPT; the compacted forms need IA32_XSS */
    {0x0000000d, ~0u, ~0u, ~0u, ~0u, ~0u},
    {0x80000000, ~0u, ~0u, ~0u, ~0u, ~0u},
    /*  LAHF ABM SSE4A MISALIGNSSE 3DNOWPREFETCH; MMXEXT RDTSCP and leaf 1's legacy bits */
    {0x80000001, ~0u, ~0u, ~0u, 0x000001e1, 0x09c0a17d},
    {0x80000002, ~0u, ~0u, ~0u, ~0u, ~0u},
    {0x80000003, ~0u, ~0u, ~0u, ~0u, ~0u},
    {0x80000004, ~0u, ~0u, ~0u, ~0u, ~0u},
};

static u32 limits[ARRAY_SIZE(feature_words)];

static void virtual_cpuid(u32 leaf, u32 subleaf, u32 masked[4]) {
    u32 host[4];
    memset(masked, 0, 4 * sizeof masked[0]);
    port_cpuid(leaf, subleaf, host);
    for (unsigned row = 0; row < ARRAY_SIZE(cpuid_masks); row++) {
        if (cpuid_masks[row].leaf != leaf || (cpuid_masks[row].subleaf != ~0u && cpuid_masks[row].subleaf != subleaf))
            continue;
        masked[0] = host[0] & cpuid_masks[row].eax;
        masked[1] = host[1] & cpuid_masks[row].ebx;
        masked[2] = host[2] & cpuid_masks[row].ecx;
        masked[3] = host[3] & cpuid_masks[row].edx;
        break;
    }
    if (leaf == 0 && masked[0] > 0xd)
        masked[0] = 0xd;
    if (leaf == 0x80000000 && masked[0] > 0x80000004)
        masked[0] = 0x80000004;
    for (unsigned i = 0; i < ARRAY_SIZE(feature_words); i++)
        if (feature_words[i].leaf == leaf && feature_words[i].subleaf == subleaf)
            masked[feature_words[i].word] &= limits[i];
    if (leaf == 1 && (cpu.cr4 & CR4_OSXSAVE))
        masked[2] |= OSXSAVE;
}

void cpu_features(u32 *words) {
    for (unsigned i = 0; i < ARRAY_SIZE(feature_words); i++) {
        u32 result[4];
        virtual_cpuid(feature_words[i].leaf, feature_words[i].subleaf, result);
        words[i] = result[feature_words[i].word];
        if (feature_words[i].leaf == 1 && feature_words[i].word == 2)
            words[i] &= ~OSXSAVE; /* what the guest chose, not what there is */
    }
}

bool cpu_limit_features(const u32 *words, bool strict) {
    u32 available[ARRAY_SIZE(feature_words)];
    memset(limits, 0xff, sizeof limits);
    cpu_features(available);
    for (unsigned i = 0; i < ARRAY_SIZE(feature_words); i++)
        if (strict && words[i] & ~available[i]) {
            report("previrt: this processor lacks what the guest knows it has: leaf %x, word %u, bits %x",
                   feature_words[i].leaf, feature_words[i].word, words[i] & ~available[i]);
            return false;
        }
    memcpy(limits, words, sizeof limits);
    return true;
}

enum outcome emulate_cpuid(void) {
    u32 masked[4];
    virtual_cpuid(cpu.gpr[EAX], cpu.gpr[ECX], masked);
    cpu.gpr[EAX] = masked[0];
    cpu.gpr[EBX] = masked[1];
    cpu.gpr[ECX] = masked[2];
    cpu.gpr[EDX] = masked[3];
    return OUTCOME_NEXT;
}

static enum outcome do_cpuid(const struct instruction *i) {
    (void)i;
    return emulate_cpuid();
}

/* MSRs with a place of their own; the width says how many bits are kept. */
static const struct {
    u32 number;
    u16 offset; /* in struct cpu */
    u8 bytes;
} msrs[] = {
    {0x00000174, __builtin_offsetof(struct cpu, sysenter_cs), 4},
    {0x00000175, __builtin_offsetof(struct cpu, sysenter_esp), 4},
    {0x00000176, __builtin_offsetof(struct cpu, sysenter_eip), 4},
    {0x000001a0, __builtin_offsetof(struct cpu, misc_enable), 8},
    {0x00000277, __builtin_offsetof(struct cpu, pat), 8},
    {0xc0000103, __builtin_offsetof(struct cpu, tsc_aux), 8},
};

static void *msr(u32 number, unsigned *bytes) {
    for (unsigned row = 0; row < ARRAY_SIZE(msrs); row++)
        if (msrs[row].number == number) {
            *bytes = msrs[row].bytes;
            return (u8 *)&cpu + msrs[row].offset;
        }
    return NULL;
}

/*
 * An MSR that does not exist reads as zero and forgets what is written, as on
 * the bare PC of the same machine version (QEMU's TCG).
 */
enum outcome emulate_rdmsr(void) {
    if (!is_kernel())
        return general_protection();
    u64 value = 0;
    unsigned bytes;
    void *place = msr(cpu.gpr[ECX], &bytes);
    if (place)
        memcpy(&value, place, bytes);
    else if (cpu.gpr[ECX] == 0x10)
        value = port_tsc() + cpu.tsc_offset;
    cpu.gpr[EAX] = value;
    cpu.gpr[EDX] = value >> 32;
    return OUTCOME_NEXT;
}

enum outcome emulate_wrmsr(void) {
    if (!is_kernel())
        return general_protection();
    u64 value = cpu.gpr[EAX] | (u64)cpu.gpr[EDX] << 32;
    unsigned bytes;
    void *place = msr(cpu.gpr[ECX], &bytes);
    if (place)
        memcpy(place, &value, bytes);
    else if (cpu.gpr[ECX] == 0x10)
        cpu.tsc_offset = value - port_tsc();
    return OUTCOME_NEXT;
}

static enum outcome do_rdmsr(const struct instruction *i) {
    (void)i;
    return emulate_rdmsr();
}

static enum outcome do_wrmsr(const struct instruction *i) {
    (void)i;
    return emulate_wrmsr();
}

static enum outcome do_rdpmc(const struct instruction *i) {
    (void)i;
    return general_protection(); /* no performance counters */
}

enum outcome emulate_xgetbv(void) {
    if (!(cpu.cr4 & CR4_OSXSAVE))
        return undefined();
    if (cpu.gpr[ECX] != 0)
        return general_protection();
    cpu.gpr[EAX] = cpu.xcr0;
    cpu.gpr[EDX] = cpu.xcr0 >> 32;
    return OUTCOME_NEXT;
}

enum outcome emulate_xsetbv(void) {
    if (!(cpu.cr4 & CR4_OSXSAVE))
        return undefined();
    u64 value = cpu.gpr[EAX] | (u64)cpu.gpr[EDX] << 32;
    u32 host[4];
    port_cpuid(0xd, 0, host);
    u64 supported = host[0] | (u64)host[3] << 32;
    if (!is_kernel() || cpu.gpr[ECX] != 0 || !(value & 1) || (value & ~supported))
        return general_protection();
    cpu.xcr0 = value;
    return OUTCOME_NEXT;
}

/* --- Group 7: by /reg for memory, by the whole ModRM byte for registers --- */

static enum outcome do_group_7(const struct instruction *i) {
    if (i->memory) {
        switch (i->reg) {
        case 0: return store_table(i, &cpu.gdtr);
        case 1: return store_table(i, &cpu.idtr);
        case 2: return load_table(i, &cpu.gdtr);
        case 3: return load_table(i, &cpu.idtr);
        case 4: return do_smsw(i);
        case 6: return do_lmsw(i);
        case 7: return do_invlpg(i);
        default: return undefined();
        }
    }
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
