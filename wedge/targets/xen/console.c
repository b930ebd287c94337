/*
 * The console: of the initial domain Xen's own, by hypercall; of any other a
 * page shared with the initial domain, two rings of bytes (xen/io/console.h).
 */

#include "core/port.h"
#include "run/state.h"
#include "store.h"
#include "xen.h"

evtchn_port_t console_port;

/* Input until the UART has room for it: Xen keeps 128 bytes and drops the rest. */
#define INPUT_SIZE 65536u
static u8 input[INPUT_SIZE];
static u32 input_taken, input_given;

static u8 ring_page[PAGE_SIZE] __attribute__((aligned(4096)));
static volatile struct xencons_interface *const ring = (volatile void *)ring_page;

static evtchn_port_t bind_console(void) {
    evtchn_bind_virq_t bind = {.virq = VIRQ_CONSOLE};
    long result = HYPERCALL(event_channel_op, EVTCHNOP_bind_virq, &bind);
    if (result)
        xen_refused("event_channel_op bind_virq", result, VIRQ_CONSOLE, 0);
    return bind.port;
}

void xen_console_start(void) {
    if (is_initial()) {
        console_port = bind_console();
    } else {
        console_port = start_info->console.domU.evtchn;
        memory_map_own(ring_page, (mfn_t){start_info->console.domU.mfn}, true);
    }
    shared_info.evtchn_mask[console_port / 32] &= ~(1u << console_port % 32);
}

static void notify(void) {
    evtchn_send_t send = {.port = console_port};
    HYPERCALL(event_channel_op, EVTCHNOP_send, &send);
}

static void ring_transmit(const u8 *bytes, u32 length) {
    while (length) {
        u32 used = ring->out_prod - ring->out_cons;
        if (used >= sizeof ring->out) {
            notify();
            HYPERCALL(sched_op, SCHEDOP_yield, 0);
            continue;
        }
        for (; length && used < sizeof ring->out; length--, used++) {
            ring->out[ring->out_prod % sizeof ring->out] = *bytes++;
            __atomic_thread_fence(__ATOMIC_RELEASE);
            ring->out_prod++;
        }
    }
    notify();
}

static u32 ring_receive(u8 *bytes, u32 size) {
    u32 count = 0;
    u32 available = ring->in_prod - ring->in_cons;
    if (available > sizeof ring->in)
        available = 0; /* the other side is broken */
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    while (count < size && count < available) {
        bytes[count++] = ring->in[ring->in_cons % sizeof ring->in];
        ring->in_cons++;
    }
    if (count)
        notify();
    return count;
}

void xen_console_take(void) {
    u8 bytes[128];
    u32 room, got;
    do {
        room = INPUT_SIZE - (input_taken - input_given);
        if (room > sizeof bytes)
            room = sizeof bytes;
        if (!room)
            return;
        got = is_initial() ? (u32)HYPERCALL(console_io, CONSOLEIO_read, room, bytes) : ring_receive(bytes, room);
        if (got > room)
            return; /* an error */
        for (u32 i = 0; i < got; i++)
            input[input_taken++ % INPUT_SIZE] = bytes[i];
    } while (got == room);
}

void port_transmit(const u8 *bytes, u32 length) {
    if (is_initial())
        HYPERCALL(console_io, CONSOLEIO_write, length, bytes);
    else
        ring_transmit(bytes, length);
}

s32 port_receive(u8 *bytes, u32 size) {
    u32 count = 0;
    while (count < size && input_given != input_taken)
        bytes[count++] = input[input_given++ % INPUT_SIZE];
    return count ? (s32)count : -1;
}

static u32 length_of(const char *text) {
    u32 length = 0;
    while (text[length])
        length++;
    return length;
}

static void transmit_text(const char *text) { port_transmit((const u8 *)text, length_of(text)); }

/* Between STX and ETX, which terminals pass over: so whoever runs the domain can tell the wedge's words from the guest's. */
void port_message(const char *text) {
    transmit_text("\x02");
    transmit_text(text);
    transmit_text("\x03");
}

/* Milliseconds would do: nothing else happens meanwhile. */
void port_wait_input(void) {
    if (!is_initial()) {
        store_poll();
        xen_console_take();
    }
    if (input_given == input_taken)
        port_wait(console_port, 100000000);
}

void console_poll(void) {
    if (!is_initial()) {
        store_poll();
        xen_console_take(); /* what there was no room for */
    }
    console_input(input_given != input_taken);
}

/* The last line tells whoever runs the domain how it ended; of the reasons Xen knows, all look the same from outside. */
void port_end(int status) {
    char line[] = "previrt: status N\n";
    line[sizeof line - 3] = '0' + status;
    transmit_text(line);
    while (!is_initial() && ring->out_cons != ring->out_prod)
        HYPERCALL(sched_op, SCHEDOP_yield, 0);
    sched_shutdown_t shutdown = {.reason = is_initial() ? SHUTDOWN_reboot : SHUTDOWN_poweroff};
    for (;;)
        HYPERCALL(sched_op, SCHEDOP_shutdown, &shutdown);
}
