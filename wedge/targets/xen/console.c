/* The console of the initial domain: Xen's own, by hypercall. */

#include "core/port.h"
#include "xen.h"

evtchn_port_t console_port;
bool console_has_input;

void xen_console_start(void) {
    evtchn_bind_virq_t bind = {.virq = VIRQ_CONSOLE};
    long result = HYPERCALL(event_channel_op, EVTCHNOP_bind_virq, &bind);
    if (result)
        xen_refused("event_channel_op bind_virq", result, VIRQ_CONSOLE, 0);
    console_port = bind.port;
    shared_info.evtchn_mask[console_port / 32] &= ~(1u << console_port % 32);
}

void port_transmit(const u8 *bytes, u32 length) { HYPERCALL(console_io, CONSOLEIO_write, length, bytes); }

s32 port_receive(u8 *bytes, u32 size) {
    long got = HYPERCALL(console_io, CONSOLEIO_read, size, bytes);
    console_has_input = got == (long)size;
    return got > 0 ? got : -1;
}

static u32 length_of(const char *text) {
    u32 length = 0;
    while (text[length])
        length++;
    return length;
}

void port_message(const char *text) { port_transmit((const u8 *)text, length_of(text)); }

void console_poll(void) { console_input(console_has_input); }

void port_end(int status) {
    char line[] = "previrt: status N\n";
    line[sizeof line - 3] = '0' + status;
    port_message(line);
    sched_shutdown_t shutdown = {.reason = SHUTDOWN_reboot};
    for (;;)
        HYPERCALL(sched_op, SCHEDOP_shutdown, &shutdown);
}
