/*
 * Traps and events: Xen's name for the guest's traps, page faults and timer.
 * The stubs of switch.S have stored the general registers and the selectors.
 */

#include "core/crash.h"
#include "core/port.h"
#include "devices/devices.h"
#include "xen.h"

#define VECTOR_UPCALL 0x100
#define VECTOR_CALL 0x80

/* Flags of a trap (xen.h, struct trap_info): the least privileged ring that may raise it; events masked in the handler. */
#define TRAP_MASK_EVENTS 4

__attribute__((noreturn)) void xen_fault_in_wedge(const struct frame *frame);

static u32 stub(u32 index) { return (u32)trap_stubs + index * 16; }

void traps_start(void) {
    static trap_info_t table[34];
    u32 count = 0;
    for (u32 vector = 0; vector < 20; vector++) {
        if (vector == 2 || vector == 9 || vector == 15)
            continue;
        bool software = vector == VECTOR_BP || vector == VECTOR_OF;
        table[count++] = (trap_info_t){vector, TRAP_MASK_EVENTS | (software ? 3 : 0), XEN_CS, stub(vector)};
    }
    table[count++] = (trap_info_t){VECTOR_CALL, TRAP_MASK_EVENTS | 3, XEN_CS, stub(32)};
    long result = HYPERCALL(set_trap_table, table);
    if (result)
        xen_refused("set_trap_table", result, (u32)table, 0);
    result = HYPERCALL(set_callbacks, XEN_CS, upcall, XEN_CS, failsafe);
    if (result)
        xen_refused("set_callbacks", result, (u32)upcall, (u32)failsafe);
    result = HYPERCALL(stack_switch, XEN_DS, stack_top);
    if (result)
        xen_refused("stack_switch", result, (u32)stack_top, 0);
}

void events_take(void) {
    vcpu_info_t *vcpu = &shared_info.vcpu_info[0];
    vcpu->evtchn_upcall_pending = 0;
    u32 words = __atomic_exchange_n(&vcpu->evtchn_pending_sel, 0, __ATOMIC_SEQ_CST);
    while (words) {
        u32 word = __builtin_ctz(words);
        words &= words - 1;
        u32 ports = __atomic_exchange_n(&shared_info.evtchn_pending[word], 0, __ATOMIC_SEQ_CST);
        if (console_port / 32 == word && (ports & 1u << console_port % 32))
            xen_console_take();
    }
    attention = 1;
    cpu.pending = 1;
}

static void take_registers(const struct frame *frame) {
    cpu.gpr[ESP] = frame->esp;
    cpu.eip = frame->eip;
    cpu.shadow = 0;
    take_flags(frame->eflags);
    if (cpu.cpl == 3)
        segments_capture();
}

/* True if guest code is to be left through all of wedge_leave. */
static bool on_event(struct frame *frame) {
    events_take();
    if (!cpu.interrupt_flag)
        return false;
    if (!event_may_interrupt(frame->eip, frame->eflags)) {
        frame->eflags |= FLAG_TF;
        if (in_entry_code(frame->eip))
            entry_step(frame->eip, frame->esp);
        return false;
    }
    take_registers(frame);
    return true;
}

static void system_call(void) {
    if (trap_software(VECTOR_CALL, 2))
        remember_call();
}

/* From entry.S, or from call_from_user, whose short way was none after all. */
static void from_entry(const struct frame *frame) {
    if (control.entry == ENTRY_entry_int80 && cpu.cpl == 3) {
        cpu.gpr[ESP] = control.user_esp;
        cpu.eip = control.user_eip;
        cpu.shadow = 0;
        take_flags(control.user_flags);
        system_call();
        return;
    }
    cpu.gpr[ESP] = frame->esp;
    wedge_enter(frame->eflags);
}

/* Registers of an in or out by bytes, as entry.S has them. */
struct port_access {
    u32 eax, edx;
};

/*
 * Port I/O that needs nothing of Xen, in ring 2: the interrupt controllers, but
 * for masks, by which the timer starts. False: not for here.
 */
bool device_access(struct port_access *access) {
    u16 port = access->edx;
    bool in = control.entry == ENTRY_in8;
    if ((port & ~0x81u) != 0x20 || (!in && port & 1) || cpu.cpl || cpu.system_flags)
        return false;
    if (in)
        access->eax = (access->eax & ~0xffu) | devices_in(port, 1);
    else
        devices_out(port, 1, access->eax & 0xff);
    cpu.shadow = 0;
    cpu.pending = devices_interrupt_pending();
    __asm__ volatile("" : : : "memory"); /* an event may come here, and sets both */
    if (attention)
        cpu.pending = 1;
    return true;
}

/*
 * From the stubs. True: what happened may have changed anything, `cpu` is what
 * counts. False: back to where the trap came from, at once.
 */
bool xen_trap(struct frame *frame) {
    if (frame->vector == VECTOR_UPCALL)
        return on_event(frame);
    if (frame->vector == VECTOR_CALL && frame->eip == (u32)to_wedge_end) {
        from_entry(frame);
        return true;
    }
    bool in_entry = in_entry_code(frame->eip);
    if (frame->vector == VECTOR_DB && in_entry) {
        entry_step(frame->eip, frame->esp);
        return false;
    }
    struct trap trap = {
        .vector = frame->vector,
        .error = frame->error,
        .address = shared_info.vcpu_info[0].arch.cr2,
    };
    if (trap_only_fills(&trap, frame->eip)) {
        shadow_commit();
        return false;
    }
    if (in_entry && frame->eip >= (u32)hypercall_page)
        xen_fault_in_wedge(frame);
    take_registers(frame);
    if (frame->vector == VECTOR_CALL)
        system_call();
    else if (in_entry && trap.vector != VECTOR_BP)
        trap_in_entry(&trap);
    else
        trap_in_guest(&trap);
    return true;
}

/* The real flags that guest code is to have. */
u32 xen_leave_prepare(void) {
    u32 flags = wedge_leave_prepare();
    shadow_commit();
    return flags;
}

__attribute__((noreturn)) void xen_fault_in_wedge(const struct frame *frame) {
    cpu.eip = frame->eip;
    crash("trap %u in the wedge itself, at %x, error %x, address %x", frame->vector, frame->eip, frame->error,
          (u32)shared_info.vcpu_info[0].arch.cr2);
}

/* Xen could not go back to where it was: a selector of the guest's that it does not take. */
__attribute__((noreturn)) void xen_failsafe(const u32 *frame) {
    crash("Xen cannot load the guest's selectors: ds %x es %x fs %x gs %x at %x", frame[0], frame[1], frame[2],
          frame[3], frame[4]);
}

/* Every address can be mapped here. */
bool port_unmappable(u32 address) {
    (void)address;
    return false;
}

bool port_access(const u8 *bytes, unsigned count, u32 address, access_t access) {
    (void)bytes;
    (void)count;
    return mmu_fill(gva(address), access);
}

bool port_access_ends(u32 eip) {
    (void)eip;
    return false;
}
