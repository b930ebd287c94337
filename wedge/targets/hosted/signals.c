/*
 * Signals: the host's name for the guest's traps, page faults and timer.
 *
 * Every handler runs with all signals blocked on a stack of its own, takes the
 * registers out of the signal frame into the virtual CPU, lets the core work,
 * and puts them back. Asynchronous signals only say that something happened;
 * where guest code was interrupted between two of its instructions with IF set,
 * the interrupt is delivered here, elsewhere on the wedge's own way out.
 */

#include "core/crash.h"
#include "core/decode.h"
#include "core/emulate.h"
#include "core/port.h"
#include "devices/devices.h"
#include "hosted.h"
#include "mmu/mmu.h"

#define SIGNAL_STACK 0x20000
static u8 signal_stack[SIGNAL_STACK] __attribute__((aligned(4096)));

static bool in_entry_code(u64 address) { return address >= ENTRY_BASE && address < LOW_WINDOW; }

/* Guest code, as opposed to the wedge's 64-bit side and its 32-bit entries. */
static bool in_guest(const struct sigcontext *context) {
    return context->cs == HOST_CS32 && !in_entry_code(context->rip);
}

/* The host leaves the guest's AC on for the handler, and C accesses words where they lie. */
static void clear_alignment_check(void) {
    __asm__ volatile("pushfq\n\tandl %0, (%%rsp)\n\tpopfq" : : "i"(~FLAG_AC) : "cc", "memory");
}

static void take_registers(const struct sigcontext *context) {
    cpu.gpr[EAX] = context->rax;
    cpu.gpr[ECX] = context->rcx;
    cpu.gpr[EDX] = context->rdx;
    cpu.gpr[EBX] = context->rbx;
    cpu.gpr[ESP] = context->rsp;
    cpu.gpr[EBP] = context->rbp;
    cpu.gpr[ESI] = context->rsi;
    cpu.gpr[EDI] = context->rdi;
    cpu.eip = context->rip;
    cpu.shadow = 0;
    take_flags(context->eflags);
    if (cpu.cpl == 3)
        segments_capture();
}

static void put_registers(struct sigcontext *context) {
    wedge_service();
    if (cpu.cpl == 3)
        mmu_enter_user();
    segments_apply(cpu.cpl == 3);
    context->rax = cpu.gpr[EAX];
    context->rcx = cpu.gpr[ECX];
    context->rdx = cpu.gpr[EDX];
    context->rbx = cpu.gpr[EBX];
    context->rsp = cpu.gpr[ESP];
    context->rbp = cpu.gpr[EBP];
    context->rsi = cpu.gpr[ESI];
    context->rdi = cpu.gpr[EDI];
    context->rip = cpu.eip;
    context->eflags = real_flags();
    context->cs = HOST_CS32;
}

static void deliver(u8 vector, bool has_error, u32 error) {
    cpu_deliver_exception(&(struct exception){.vector = vector, .has_error = has_error, .error = error});
}

/* As many of the bytes at EIP as can be read: an instruction may end at the last mapped page. */
static unsigned fetch(u8 bytes[MAX_INSTRUCTION]) {
    u32 at = cpu.segments[CS].base + cpu.eip;
    u32 first = PAGE_SIZE - (at & ~PAGE_MASK);
    access_t access = cpu.cpl == 3 ? PF_USER : 0;
    if (first >= MAX_INSTRUCTION)
        return guest_read(gva(at), bytes, MAX_INSTRUCTION, access) ? MAX_INSTRUCTION : 0;
    if (!guest_read(gva(at), bytes, first, access))
        return 0;
    return guest_read(gva(at + first), bytes + first, MAX_INSTRUCTION - first, access) ? MAX_INSTRUCTION : first;
}

/* An instruction the host would not execute: emulate it, or it is the guest's own fault. */
static void emulate_trapped(u8 vector, bool has_error, u32 error) {
    u8 bytes[MAX_INSTRUCTION];
    unsigned count = fetch(bytes);
    if (!count || emulate(bytes, count, 0) == OUTCOME_UNKNOWN)
        deliver(vector, has_error, error);
}

/* --- The traps, by their vector --- */

typedef void trap_handler(const struct sigcontext *context);

static void trap_fault(const struct sigcontext *context) {
    deliver(context->trapno, false, 0);
}

/* An interrupt is being held back for the instruction after a shadow's; once, or a loop would hold it for ever. */
static bool shadow_held;

/*
 * Whether an interrupt has to wait for one more instruction: in the shadow of
 * the site that ends here, or in front of hlt, which must see it.
 */
static bool hold_interrupt(u32 eip) {
    u32 moved;
    if (cpu.cpl)
        return false;
    const struct patch_entry *site = site_by_start(eip, &moved);
    if (site && site->kind == KIND_hlt)
        return true;
    site = shadow_held ? NULL : site_by_end(eip, &moved);
    shadow_held = site && site_opens_shadow(site);
    return shadow_held;
}

static void trap_debug(const struct sigcontext *context) {
    bool ours = wedge_stepping;
    bool guests = (cpu.cpl == 3 && !ours && (context->eflags & FLAG_TF)) || (cpu.system_flags & FLAG_TF);
    if (ours && !guests && hold_interrupt(cpu.eip)) {
        cpu.shadow = 1;
        return;
    }
    wedge_stepping = shadow_held = false;
    if (!guests)
        return;
    cpu.dr[6] |= 1u << 14; /* BS */
    deliver(VECTOR_DB, false, 0);
}

static void software(u8 vector, u32 length) {
    if (!cpu_software_interrupt(vector)) {
        struct exception cause = exception;
        cpu.eip -= length;
        cpu_deliver_exception(&cause);
    }
}

static void trap_breakpoint(const struct sigcontext *context) {
    if (!low_return(context->rip))
        software(VECTOR_BP, 1);
}

static void trap_overflow(const struct sigcontext *context) {
    (void)context;
    software(VECTOR_OF, 1);
}

static void trap_undefined(const struct sigcontext *context) {
    (void)context;
    emulate_trapped(VECTOR_UD, false, 0);
}

/* Segment faults: first the real registers may not yet be what the virtual ones say. */
static void trap_protection(const struct sigcontext *context) {
    if (segments_apply(true))
        return;
    emulate_trapped(context->trapno, true, context->err);
}

static void trap_page_fault(const struct sigcontext *context) {
    access_t access = (context->err & PF_WRITE) | (cpu.cpl == 3 ? PF_USER : 0);
    u32 address = context->cr2;
    if (segments_apply(true))
        return;
    if (mmu_fill(gva(address), access)) {
        u8 bytes[MAX_INSTRUCTION];
        if (address >= map_floor || low_access(bytes, fetch(bytes), address, access))
            return;
    }
    struct exception cause = exception;
    mmu_page_fault_begins(gva(address));
    cpu_deliver_exception(&cause);
}

static void trap_alignment(const struct sigcontext *context) {
    (void)context;
    deliver(VECTOR_AC, true, 0);
}

static trap_handler *const traps[20] = {
    [VECTOR_DE] = trap_fault,       [VECTOR_DB] = trap_debug,      [VECTOR_BP] = trap_breakpoint,
    [VECTOR_OF] = trap_overflow,    [VECTOR_BR] = trap_fault,      [VECTOR_UD] = trap_undefined,
    [VECTOR_NP] = trap_protection,  [VECTOR_SS] = trap_protection, [VECTOR_GP] = trap_protection,
    [VECTOR_PF] = trap_page_fault,  [VECTOR_MF] = trap_fault,      [VECTOR_AC] = trap_alignment,
    [VECTOR_XM] = trap_fault,
};

/* --- Handlers --- */

static void fault_in_wedge(int signal, const struct sigcontext *context) {
    cpu.eip = context->rip;
    crash("signal %u in the wedge itself, at %x%x, address %x%x", (u32)signal, (u32)(context->rip >> 32),
          (u32)context->rip, (u32)(context->cr2 >> 32), (u32)context->cr2);
}

/*
 * Takes back what an entry has pushed so far, its registers with it: from the
 * entry's start to the fault there are only pushes and what cannot fault.
 */
static void unwind_entry(u32 start, u32 fault) {
    static const u8 memory = 0xff;
    u8 pushed[8];
    unsigned count = 0;
    struct instruction instruction;
    for (u32 at = start; at < fault && at < start + ENTRY_SIZE; at += instruction.length) {
        if (!decode((const u8 *)(uptr)at, MAX_INSTRUCTION, &instruction))
            return;
        u8 opcode = instruction.opcode;
        bool push = (opcode & 0xf8) == 0x50 || opcode == 0x9c || (opcode == 0xff && instruction.reg == 6);
        if (instruction.map == 0 && push && count < ARRAY_SIZE(pushed))
            pushed[count++] = (opcode & 0xf8) == 0x50 ? opcode & 7 : memory;
    }
    while (count--) {
        u32 value = *(const u32 *)(uptr)cpu.gpr[ESP];
        cpu.gpr[ESP] += 4;
        if (pushed[count] != memory)
            cpu.gpr[pushed[count]] = value;
    }
}

/*
 * An entry touched guest memory that is not there: mostly only the mapping is
 * missing. Else the entry is unwound and the generic emulator does the site,
 * fault and all.
 */
static void fault_in_entry(int signal, struct sigcontext *context) {
    u32 place = (context->rip - ENTRY_BASE) / ENTRY_SIZE;
    bool shared = place >= ENTRY_COUNT; /* code behind the entries, which accesses the kernel's memory only */
    access_t access = (context->err & PF_WRITE) | (cpu.cpl == 3 && !shared ? PF_USER : 0);
    if (context->trapno == VECTOR_PF && mmu_fill(gva(context->cr2), access))
        return;
    u32 eax = cpu.gpr[EAX], ecx = cpu.gpr[ECX];
    take_registers(context);
    if (shared && control.entry == ENTRY_iret) {
        cpu.gpr[EAX] = eax; /* it keeps them here, not on the stack */
        cpu.gpr[ECX] = ecx;
    }
    if (context->trapno != VECTOR_PF || cpu.cpl == 3)
        crash("signal %u in an entry of the wedge, address %x", (u32)signal, (u32)context->cr2);
    u32 start = ENTRY_BASE + (shared ? control.entry : place) * ENTRY_SIZE;
    unwind_entry(start, context->rip);
    u32 end = *(const u32 *)(uptr)cpu.gpr[ESP];
    cpu.gpr[ESP] += 4;
    wedge_stepping = false;
    emulate_site(end);
    put_registers(context);
}

static void on_trap(int signal, struct siginfo *info, struct ucontext *frame) {
    (void)info;
    clear_alignment_check();
    struct sigcontext *context = &frame->uc_mcontext;
    if (context->trapno == VECTOR_DB && !in_guest(context)) {
        /* Stepping on: through an entry, or into the wedge, which looks for interrupts on its way out. */
        if (context->cs != HOST_CS32) {
            context->eflags &= ~(u64)FLAG_TF;
            user_stepping = cpu.cpl == 3 && !wedge_stepping;
        }
        return;
    }
    if (context->cs != HOST_CS32)
        fault_in_wedge(signal, context);
    if (in_entry_code(context->rip) && context->trapno != VECTOR_BP) {
        fault_in_entry(signal, context);
        return;
    }
    /* Most are page faults that only miss a mapping: nothing else to do for those. */
    if (context->trapno == VECTOR_PF) {
        access_t access = (context->err & PF_WRITE) | (cpu.cpl == 3 ? PF_USER : 0);
        if (mmu_fill(gva(context->cr2), access) && context->cr2 >= map_floor)
            return;
    }
    take_registers(context);
    trace(TRACE_TRAP, cpu.eip, context->trapno);
    trap_handler *handle = context->trapno < ARRAY_SIZE(traps) ? traps[context->trapno] : NULL;
    if (!handle)
        crash("host signal %u, trap %u", (u32)signal, (u32)context->trapno);
    handle(context);
    put_registers(context);
}

/* A 32-bit system call of the host's, stopped by seccomp: int $0x80, sysenter or syscall in guest code. */
static void on_system_call(int signal, struct siginfo *info, struct ucontext *frame) {
    (void)info;
    clear_alignment_check();
    struct sigcontext *context = &frame->uc_mcontext;
    if (!in_guest(context))
        fault_in_wedge(signal, context);
    take_registers(context);
    trace(TRACE_TRAP, cpu.eip, 0x80);
    u8 bytes[2] = {0};
    guest_read(gva(cpu.segments[CS].base + cpu.eip - 2), bytes, 2, 0);
    if (bytes[0] == 0xcd && bytes[1] == 0x80) {
        software(0x80, 2);
    } else {
        cpu.eip -= 2;
        emulate_trapped(VECTOR_UD, false, 0);
    }
    put_registers(context);
}

static void on_event(int signal, struct siginfo *info, struct ucontext *frame) {
    (void)signal;
    (void)info;
    clear_alignment_check();
    struct sigcontext *context = &frame->uc_mcontext;
    attention = 1;
    cpu.pending = 1;
    if (context->cs != HOST_CS32) {
        if (context->rip >= (uptr)leave_begin && context->rip < (uptr)leave_end)
            context->rip = (uptr)leave_restart;
        return;
    }
    if (!cpu.interrupt_flag)
        return;
    u32 moved;
    shadow_held = false;
    if (in_entry_code(context->rip) || (cpu.cpl == 0 && site_by_start(context->rip, &moved)) ||
        hold_interrupt(context->rip)) {
        /* Let the site finish; a trap follows at the next instruction boundary. */
        wedge_stepping = true;
        context->eflags |= FLAG_TF;
        return;
    }
    take_registers(context);
    put_registers(context);
}

static void handle(int signal, void (*handler)(int, struct siginfo *, struct ucontext *)) {
    struct {
        void (*handler)(int, struct siginfo *, struct ucontext *);
        unsigned long flags;
        void (*restorer)(void);
        u64 mask;
    } action = {handler, SA_SIGINFO | SA_ONSTACK | 0x04000000 /* SA_RESTORER */, signal_return, ~0ul};
    long result = HOST_CALL(__NR_rt_sigaction, signal, &action, NULL, 8);
    if (host_failed(result))
        host_fail("cannot install a signal handler", result);
}

void signals_start(void) {
    stack_t stack = {.ss_sp = signal_stack, .ss_size = sizeof signal_stack};
    long result = HOST_CALL(__NR_sigaltstack, &stack, NULL);
    if (host_failed(result))
        host_fail("cannot set the signal stack", result);
    static const int trap_signals[] = {SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS};
    for (unsigned i = 0; i < ARRAY_SIZE(trap_signals); i++)
        handle(trap_signals[i], on_trap);
    handle(SIGSYS, on_system_call);
    handle(SIGALRM, on_event);
    HOST_CALL(__NR_rt_sigprocmask, SIG_SETMASK, &(u64){0}, NULL, 8);
}
