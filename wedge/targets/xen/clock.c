/* Time: what Xen publishes in the shared page, carried on by the time-stamp counter; and Xen's one-shot timer. */

#include "core/emulate.h"
#include "core/port.h"
#include "run/state.h"
#include "xen.h"

evtchn_port_t timer_port;
static u64 start_time;
static u64 armed = NEVER;

u64 port_tsc(void) { return __builtin_ia32_rdtsc(); }

/* Nanoseconds of Xen's system time (xen.h, struct vcpu_time_info). */
static u64 system_time(void) {
    const volatile vcpu_time_info_t *time = &shared_info.vcpu_info[0].time;
    u32 version;
    u64 result;
    do {
        version = time->version;
        __asm__ volatile("" : : : "memory");
        u64 delta = port_tsc() - time->tsc_timestamp;
        delta = time->tsc_shift < 0 ? delta >> -time->tsc_shift : delta << time->tsc_shift;
        u64 high = (delta >> 32) * time->tsc_to_system_mul;
        u64 low = (u64)(u32)delta * time->tsc_to_system_mul;
        result = time->system_time + high + (low >> 32);
        __asm__ volatile("" : : : "memory");
    } while ((version & 1) || version != time->version);
    return result;
}

void clock_start(void) {
    start_time = system_time();
    evtchn_bind_virq_t bind = {.virq = VIRQ_TIMER};
    long result = HYPERCALL(event_channel_op, EVTCHNOP_bind_virq, &bind);
    if (result)
        xen_refused("event_channel_op bind_virq", result, VIRQ_TIMER, 0);
    timer_port = bind.port;
    shared_info.evtchn_mask[timer_port / 32] &= ~(1u << timer_port % 32);
    HYPERCALL(vcpu_op, VCPUOP_stop_periodic_timer, 0, 0);
}

u64 port_time(void) { return system_time() - start_time; }

void port_set_time(u64 time) { start_time = system_time() - time; }

/* shared_info says what the wall clock was at system time 0. */
u64 port_wall_time(void) {
    u64 seconds = shared_info.wc_sec | (u64)shared_info.arch.wc_sec_hi << 32;
    return seconds * 1000000000 + shared_info.wc_nsec + system_time();
}

void port_cpuid(u32 leaf, u32 subleaf, u32 registers[4]) {
    __asm__ volatile("cpuid"
                     : "=a"(registers[0]), "=b"(registers[1]), "=c"(registers[2]), "=d"(registers[3])
                     : "0"(leaf), "2"(subleaf));
}

void clock_arm(void) {
    u64 deadline = next_deadline();
    if (deadline == armed)
        return;
    armed = deadline;
    u64 at = deadline == NEVER ? 0 : deadline + start_time;
    HYPERCALL(set_timer_op, at, at >> 32);
}

void port_wait(evtchn_port_t port, u32 timeout) {
    evtchn_port_t ports[] = {port};
    sched_poll_t poll = {.nr_ports = 1, .timeout = system_time() + timeout};
    set_xen_guest_handle(poll.ports, ports);
    HYPERCALL(sched_op, SCHEDOP_poll, &poll);
    events_take();
}

/* Events stay masked: SCHEDOP_poll wakes for its ports all the same. */
void clock_wait(void) {
    evtchn_port_t ports[] = {timer_port, console_port, store_port};
    u64 deadline = next_deadline();
    sched_poll_t poll = {.nr_ports = ARRAY_SIZE(ports) - is_initial(), .timeout = deadline == NEVER ? 0 : deadline + start_time};
    set_xen_guest_handle(poll.ports, ports);
    HYPERCALL(sched_op, SCHEDOP_poll, &poll);
    events_take();
    console_poll();
}
