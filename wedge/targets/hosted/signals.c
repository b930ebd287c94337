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
#include "run/state.h"

#define SIGNAL_STACK 0x20000
static u8 signal_stack[SIGNAL_STACK] __attribute__((aligned(4096)));

/* Guest code, as opposed to the wedge's 64-bit side and its 32-bit entries. */
static bool in_guest(const struct sigcontext *context) {
    return context->cs == HOST_CS32 && !in_entry_code(context->rip);
}

/* The host leaves the guest's AC on for the handler, and C accesses words where they lie. */
static void clear_alignment_check(void) {
    __asm__ volatile("pushfq\n\tandl %0, (%%rsp)\n\tpopfq" : : "i"(~FLAG_AC) : "cc", "memory");
}

/* The host keeps the state of the FPU for the guest while a handler runs. */
static const void *fpu_kept;

const void *port_fpu_kept(void) { return fpu_kept; }

static void take_registers(const struct sigcontext *context) {
    fpu_kept = (const void *)(uptr)context->fpstate;
    cpu.gpr[EAX] = context->rax;
    cpu.gpr[ECX] = context->rcx;
    cpu.gpr[EDX] = context->rdx;
    cpu.gpr[EBX] = context->rbx;
    cpu.gpr[ESP] = context->rsp;
    cpu.gpr[EBP] = context->rbp;
    cpu.gpr[ESI] = context->rsi;
    cpu.gpr[EDI] = context->rdi;
    cpu.eip = low_guest_eip(context->rip);
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
    context->rip = low_enter();
    context->eflags = real_flags();
    context->cs = HOST_CS32;
    fpu_kept = NULL;
}

/* --- Handlers --- */

static void fault_in_wedge(int signal, const struct sigcontext *context) {
    cpu.eip = context->rip;
    crash("signal %u in the wedge itself, at %x%x, address %x%x", (u32)signal, (u32)(context->rip >> 32),
          (u32)context->rip, (u32)(context->cr2 >> 32), (u32)context->cr2);
}

static void on_trap(int signal, struct siginfo *info, struct ucontext *frame) {
    (void)info;
    clear_alignment_check();
    struct sigcontext *context = &frame->uc_mcontext;
    if (signal == SIGBUS && context->trapno == VECTOR_PF) {
        console_flush();
        host_fail("the host has no memory left for the guest", 0);
    }
    if (context->trapno == VECTOR_DB && !in_guest(context)) {
        /* Stepping on: through an entry, or into the wedge, which looks for interrupts on its way out. */
        if (context->cs != HOST_CS32) {
            context->eflags &= ~(u64)FLAG_TF;
            user_stepping = cpu.cpl == 3 && !wedge_stepping;
        } else {
            entry_step(context->rip, context->rsp);
        }
        return;
    }
    if (context->cs != HOST_CS32)
        fault_in_wedge(signal, context);
    struct trap trap = {.vector = context->trapno, .error = context->err, .address = low_guest_address(context->cr2)};
    /* Most are page faults that only miss a mapping. */
    if (trap_only_fills(&trap, context->rip))
        return;
    take_registers(context);
    if (in_entry_code(context->rip) && trap.vector != VECTOR_BP)
        trap_in_entry(&trap);
    else
        trap_in_guest(&trap);
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
        trap_software(0x80, 2);
    } else {
        cpu.eip -= 2;
        trap_refused(VECTOR_UD, false, 0);
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
    if (!event_may_interrupt(context->rip, context->eflags)) {
        context->eflags |= FLAG_TF;
        if (in_entry_code(context->rip))
            entry_step(context->rip, context->rsp);
        return;
    }
    take_registers(context);
    put_registers(context);
}

/* The host's SIG_IGN. */
#define IGNORED ((void (*)(int, struct siginfo *, struct ucontext *))1)

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
    /* Nobody reads the console, or a file may not be that large: the call says so. */
    handle(SIGPIPE, IGNORED);
    handle(SIGXFSZ, IGNORED);
    HOST_CALL(__NR_rt_sigprocmask, SIG_SETMASK, &(u64){0}, NULL, 8);
}
