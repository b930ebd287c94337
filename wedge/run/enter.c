/*
 * The way in and the way out: what each entry does, and what has to be looked
 * after before guest code runs again.
 */

#include "core/crash.h"
#include "core/emulate.h"
#include "core/memory.h"
#include "core/port.h"
#include "counts.h"
#include "devices/devices.h"
#include "run.h"

volatile u32 attention;
bool wedge_stepping, user_stepping;

#define NO_SELECTOR 0xffffffff

/* A segment as no register can have it. */
static void forget_gs(void) { control.gs_segment = (struct segment){.selector = 0xffff}; }

void port_tables_changed(void) {
    control.flat_selector = NO_SELECTOR;
    control.call_gate.address = 0;
    control.user_code.address = 0;
    forget_gs();
}

void remember_call(void) {
    u32 address = cpu.idtr.base + 0x80 * 8, words[2];
    control.call_gate.address = 0;
    if (cpu.cpl || cpu.interrupt_flag || !(cpu.tr.attributes & 8) || !guest_read(gva(address), words, 8, 0))
        return;
    control.call_offset = cpu.eip;
    control.call_code = cpu.segments[CS];
    control.call_stack = cpu.segments[SS];
    control.call_tss = cpu.tr.base + 4;
    control.call_gate = (struct known_descriptor){address, words[0], words[1]};
}

static bool know_descriptor(const struct segment *segment, struct known_descriptor *known) {
    u32 address = cpu.gdtr.base + (segment->selector & ~7u), words[2];
    if ((segment->selector & 4) || !guest_read(gva(address), words, 8, 0))
        return false;
    *known = (struct known_descriptor){address, words[0], words[1]};
    return true;
}

/* Set by an iret to user code, until something runs. */
static bool returned;

static bool is_flat(const struct segment *segment) { return !segment->base && segment->limit == 0xffffffff; }

/* The short ways between user code and kernel change nothing but selectors and attributes. */
static bool code_and_stack_are_flat(void) { return is_flat(&cpu.segments[CS]) && is_flat(&cpu.segments[SS]); }

/* Once nothing comes before user code any more: what is known has to be in the real tables too. */
static void remember_user(void) {
    if (!returned || cpu.cpl != 3)
        return;
    control.user_code_segment = cpu.segments[CS];
    control.user_data_segment = cpu.segments[SS];
    if (!code_and_stack_are_flat() || !know_descriptor(&cpu.segments[CS], &control.user_code) ||
        !know_descriptor(&cpu.segments[SS], &control.user_data))
        control.user_code.address = 0;
}

typedef enum outcome operation(void);

static enum outcome enter_sti(void) {
    cpu.shadow = !cpu.interrupt_flag;
    cpu.interrupt_flag = FLAG_IF;
    return OUTCOME_NEXT;
}

static enum outcome enter_popf(void) { return emulate_popf(4); }

static enum outcome enter_iret(void) {
    mmu_page_fault_over();
    enum outcome outcome = emulate_iret(4);
    returned = outcome == OUTCOME_JUMPED;
    return outcome;
}

#define MOVE_TO_CR3(name, from) \
    static enum outcome enter_mov_cr3_##name(void) { return emulate_mov_to_cr3(cpu.gpr[from]); }
MOVE_TO_CR3(eax, EAX)
MOVE_TO_CR3(ecx, ECX)
MOVE_TO_CR3(edx, EDX)
MOVE_TO_CR3(ebx, EBX)
MOVE_TO_CR3(ebp, EBP)
MOVE_TO_CR3(esi, ESI)
MOVE_TO_CR3(edi, EDI)

static enum outcome enter_in8(void) { return emulate_in(cpu.gpr[EDX], 1); }
static enum outcome enter_in16(void) { return emulate_in(cpu.gpr[EDX], 2); }
static enum outcome enter_in32(void) { return emulate_in(cpu.gpr[EDX], 4); }
static enum outcome enter_out8(void) { return emulate_out(cpu.gpr[EDX], 1); }
static enum outcome enter_out16(void) { return emulate_out(cpu.gpr[EDX], 2); }
static enum outcome enter_out32(void) { return emulate_out(cpu.gpr[EDX], 4); }

static enum outcome enter_int80(void) {
    if (!cpu_software_interrupt(0x80))
        return OUTCOME_FAULT;
    remember_call();
    return OUTCOME_ENTERED;
}

static enum outcome enter_sysenter(void) { return cpu_sysenter() ? OUTCOME_JUMPED : OUTCOME_FAULT; }

static enum outcome enter_undefined(void) {
    raise_plain(VECTOR_UD);
    return OUTCOME_FAULT;
}

static enum outcome enter_wbinvd(void) {
    return cpu.cpl ? (raise(VECTOR_GP, 0), OUTCOME_FAULT) : OUTCOME_NEXT;
}

static enum outcome pop_segment(enum segment_register which) {
    u32 selector;
    if (!guest_read(gva(cpu.segments[SS].base + cpu.gpr[ESP]), &selector, 4, cpu.cpl == 3 ? PF_USER : 0) ||
        !cpu_load_segment(which, selector))
        return OUTCOME_FAULT;
    cpu.gpr[ESP] += 4;
    return OUTCOME_NEXT;
}

/* What load_flat_fs in entry.S may repeat without asking. */
static void remember_flat_fs(void) {
    const struct segment *fs = &cpu.segments[FS];
    u32 words[2];
    control.flat_selector = NO_SELECTOR;
    if (fs->base || fs->limit != 0xffffffff || (fs->selector & 4) || !(fs->selector & ~3u))
        return;
    control.flat_address = cpu.gdtr.base + (fs->selector & ~7u);
    if (!guest_read(gva(control.flat_address), words, 8, 0))
        return;
    control.flat_not_low = ~words[0];
    control.flat_not_high = ~words[1];
    control.flat_attributes = fs->selector | (u32)fs->attributes << 16;
    control.flat_selector = fs->selector;
}

/* What load_known_gs in entry.S need not repeat. */
static void remember_gs(void) {
    control.gs_segment = cpu.segments[GS];
    if (!(cpu.segments[GS].selector & ~3u) || !know_descriptor(&cpu.segments[GS], &control.gs))
        forget_gs();
}

static enum outcome move_segment(enum segment_register which, enum gpr from) {
    if (!cpu_load_segment(which, cpu.gpr[from]))
        return OUTCOME_FAULT;
    if (which == FS && cpu.cpl == 0)
        remember_flat_fs();
    if (which == GS && cpu.cpl == 0)
        remember_gs();
    return OUTCOME_NEXT;
}

#define POP(name, which) \
    static enum outcome enter_pop_##name(void) { return pop_segment(which); }
#define MOVE(name, which)                                                              \
    static enum outcome enter_mov_##name##_eax(void) { return move_segment(which, EAX); } \
    static enum outcome enter_mov_##name##_ecx(void) { return move_segment(which, ECX); } \
    static enum outcome enter_mov_##name##_edx(void) { return move_segment(which, EDX); }
POP(es, ES)
POP(ds, DS)
POP(fs, FS)
POP(gs, GS)
MOVE(es, ES)
MOVE(ds, DS)
MOVE(fs, FS)
MOVE(gs, GS)

/* By entry; those that never come here, and `emulate`, are empty. */
#define MOVES(name)                                                \
    [ENTRY_pop_##name] = enter_pop_##name,                         \
    [ENTRY_mov_##name##_eax] = enter_mov_##name##_eax,             \
    [ENTRY_mov_##name##_ecx] = enter_mov_##name##_ecx,             \
    [ENTRY_mov_##name##_edx] = enter_mov_##name##_edx
static operation *const operations[ENTRY_COUNT] = {
    [ENTRY_sti] = enter_sti,
    [ENTRY_popf] = enter_popf,
    [ENTRY_iret] = enter_iret,
    [ENTRY_hlt] = emulate_hlt,
    [ENTRY_in8] = enter_in8,
    [ENTRY_in16] = enter_in16,
    [ENTRY_in32] = enter_in32,
    [ENTRY_out8] = enter_out8,
    [ENTRY_out16] = enter_out16,
    [ENTRY_out32] = enter_out32,
    [ENTRY_entry_int80] = enter_int80,
    [ENTRY_entry_sysenter] = enter_sysenter,
    [ENTRY_emulate_rdtscp] = emulate_rdtscp,
    [ENTRY_emulate_rdmsr] = emulate_rdmsr,
    [ENTRY_emulate_wrmsr] = emulate_wrmsr,
    [ENTRY_emulate_cpuid] = emulate_cpuid,
    [ENTRY_emulate_clac] = enter_undefined,
    [ENTRY_emulate_stac] = enter_undefined,
    [ENTRY_emulate_xgetbv] = emulate_xgetbv,
    [ENTRY_emulate_xsetbv] = emulate_xsetbv,
    [ENTRY_emulate_wbinvd] = enter_wbinvd,
    [ENTRY_emulate_clts] = emulate_clts,
    MOVES(es),
    MOVES(ds),
    MOVES(fs),
    MOVES(gs),
    [ENTRY_mov_cr3_eax] = enter_mov_cr3_eax,
    [ENTRY_mov_cr3_ecx] = enter_mov_cr3_ecx,
    [ENTRY_mov_cr3_edx] = enter_mov_cr3_edx,
    [ENTRY_mov_cr3_ebx] = enter_mov_cr3_ebx,
    [ENTRY_mov_cr3_ebp] = enter_mov_cr3_ebp,
    [ENTRY_mov_cr3_esi] = enter_mov_cr3_esi,
    [ENTRY_mov_cr3_edi] = enter_mov_cr3_edi,
};

/* The call has just pushed the return address, so its page is mapped. */
static u32 pop_return_address(void) {
    u32 end = *(u32 *)(uptr)cpu.gpr[ESP];
    cpu.gpr[ESP] += 4;
    return end;
}

bool site_announces(const struct patch_entry *site) {
    return site->kind >= KIND_module_load && site->kind <= KIND_module_unload;
}

/* At the entry of a function of the kernel's. One that is to fail returns -ENOEXEC. */
static void announced(u8 kind, u32 end) {
    cpu.eip = end;
    if (modules_announced(kind))
        return;
    cpu.gpr[EAX] = MODULE_REFUSED;
    cpu.eip = pop_return_address();
}

void emulate_site(u32 end) {
    u64 begun = counts_begin();
    u32 moved;
    const struct patch_entry *site = site_by_end(end, &moved);
    if (!site) {
        cpu.eip = end;
        crash("a call of the wedge from %x, where no site ends", end);
    }
    cpu.eip = site->address + moved;
    trace(TRACE_SITE, cpu.eip, site->kind);
    if (site->kind == KIND_iret)
        mmu_page_fault_over();
    if (site_announces(site)) {
        announced(site->kind, end);
        return;
    }
    u32 filler = site_filler(site);
    const u8 *original = site->original + filler;
    u32 length = site->length - filler;
    bool memory = site->kind >= KIND_mmio_read && site->kind <= KIND_pagetable_write;
    enum outcome outcome = memory ? emulate_memory(original, length, site->length, site->kind == KIND_pagetable_write)
                                  : emulate(original, length, site->length);
    if (outcome == OUTCOME_UNKNOWN)
        cpu_deliver_exception(&(struct exception){.vector = VECTOR_UD});
    count_site(site->domain, begun);
}

static u32 domain_of(u32 entry) {
    if (entry >= ENTRY_in8 && entry <= ENTRY_out32)
        return DOMAIN_portio;
    return entry == ENTRY_entry_int80 || entry == ENTRY_entry_sysenter ? DOMAIN_entry : DOMAIN_cpu;
}

static void run_operation(operation *operate, u32 end) {
    u64 begun = counts_begin();
    bool stepping = cpu_flags() & FLAG_TF;
    trace(TRACE_SITE, end, control.entry);
    cpu.eip = end;
    enum outcome outcome = operate();
    if (outcome == OUTCOME_FAULT) {
        /* Copied code has no entry in the table; its slots have the least length. */
        u32 moved;
        const struct patch_entry *site = site_by_end(end, &moved);
        cpu.eip = end - (site ? site->length : 6);
    }
    emulate_finish(outcome, end, stepping);
    count_site(domain_of(control.entry), begun);
}

void take_flags(u32 real) {
    u32 apart = cpu.cpl == 3 ? 0 : FLAGS_APART;
    if (cpu.cpl == 3 && wedge_stepping)
        real &= ~(u32)FLAG_TF; /* ours: the way back to user code was finished by it */
    cpu.eflags = (real & ~(FLAGS_VIRTUAL | apart)) | (cpu.system_flags & apart);
}

u32 real_flags(void) {
    u32 flags = cpu.eflags | FLAG_IF;
    if (cpu.cpl != 3)
        flags &= ~(u32)FLAG_AC;
    return wedge_stepping ? flags | FLAG_TF : flags;
}

void wedge_enter(u32 flags) {
    take_flags(flags);
    if (cpu.cpl == 3) {
        segments_capture();
        if (user_stepping)
            cpu.eflags |= FLAG_TF;
        user_stepping = false;
    }
    cpu.shadow = 0;
    wedge_stepping = false;

    u32 end = pop_return_address();
    operation *operate = control.entry < ENTRY_COUNT ? operations[control.entry] : NULL;
    if (control.entry == ENTRY_carried) {
        modules_carried(end);
        end = pop_return_address();
    }
    if (operate)
        run_operation(operate, end);
    else if (control.entry == ENTRY_COUNT)
        cpu.eip = end; /* only to look for interrupts */
    else
        emulate_site(end);
}

static void power_off(void) {
    /* hlt with interrupts off: without ACPI this is how a guest ends. */
    port_reset();
}

u64 next_deadline(void) {
    u64 devices = devices_next_deadline(), console = console_deadline();
    return devices < console ? devices : console;
}

void wedge_service(void) {
    if (unlikely(kernel_awaited))
        kernel_look();
    for (;;) {
        if (attention) {
            attention = 0;
            devices_run(port_time());
            console_poll();
            console_flush();
        }
        cpu_poll_interrupts();
        if (!cpu.halted)
            break;
        if (!cpu.interrupt_flag)
            power_off();
        console_flush();
        clock_wait();
        devices_run(port_time());
    }
    clock_arm();
    bool due = devices_interrupt_pending();
    cpu.pending = due || attention;
    if (cpu.shadow && due && cpu.interrupt_flag)
        wedge_stepping = true;
    if (!code_and_stack_are_flat())
        control.call_gate.address = control.user_code.address = 0;
}

u32 wedge_leave_prepare(void) {
    wedge_service();
    remember_user();
    returned = false;
    if (cpu.cpl == 3)
        mmu_enter_user();
    segments_apply(cpu.cpl == 3);
    return real_flags();
}
