/*
 * The console: the UART's wire to whoever runs the guest. Input is taken when
 * the guest idles or polls for it and at each timer tick; Ctrl-A is the escape. What is typed
 * waits for the UART apart: a guest that does not read holds up no command.
 */

#include "burn.h"
#include "core/crash.h"
#include "core/port.h"
#include "devices/devices.h"
#include "counts.h"
#include "run.h"
#include "state.h"

#define ESCAPE 1 /* Ctrl-A */

static u8 output[1024];
static u32 output_length;

static u8 input[256];
static u32 input_next, input_end;
static bool input_closed;

#define TYPED 16384u
static u8 typed[TYPED]; /* and not yet given to the UART */
static u32 typed_taken, typed_given;
static bool escapes, escaped;
static bool commanded; /* commands may come among the input */

static const u8 *panic_pattern;
static u32 panic_matched;
static bool panicked;

void console_start(const u8 *panic, bool escape, bool commands) {
    panic_pattern = panic;
    escapes = escape;
    commanded = commands;
}

void console_flush(void) {
    if (output_length)
        port_transmit(output, output_length);
    output_length = 0;
}

void console_end(int status) {
    console_flush();
    counts_tell();
    port_end(status);
}

/* A panic is recognised by what the kernel prints at its end; the rest of that line still comes out. */
static void watch_for_panic(u8 byte) {
    if (!panic_pattern[0])
        return;
    if (panicked && byte == '\n')
        console_end(STATUS_PANIC);
    panic_matched = byte == panic_pattern[panic_matched] ? panic_matched + 1 : byte == panic_pattern[0];
    if (panic_matched && !panic_pattern[panic_matched]) {
        panicked = true;
        panic_matched = 0;
    }
}

void port_console_write(u8 byte) {
    output[output_length++] = byte;
    if (byte == '\n' || output_length == sizeof output)
        console_flush();
    watch_for_panic(byte);
}

/* A guest that takes no interrupts never idles, nor does its timer tick. */
void port_console_awaited(void) { attention = 1; }

void port_warn(const char *message) {
    static const char *last;
    if (last == message)
        return;
    last = message;
    port_message("previrt: ");
    port_message(message);
    port_message("\n");
}

void port_reset(void) { console_end(STATUS_DONE); }

void port_crashed(void) { console_end(STATUS_CRASH); }

/* Ctrl-A x ends the run, Ctrl-A a sends a Ctrl-A; anything else is swallowed with it. */
static bool escape(u8 *byte) {
    if (!escapes)
        return false;
    if (!escaped) {
        escaped = *byte == ESCAPE;
        return escaped;
    }
    escaped = false;
    if (*byte == 'x')
        console_end(STATUS_DONE);
    if (*byte != 'a' && *byte != ESCAPE)
        return true;
    *byte = ESCAPE;
    return false;
}

static u32 hexadecimal(const u8 *digits, u32 count) {
    u32 value = 0;
    for (; count; count--, digits++)
        value = value << 4 | (*digits <= '9' ? *digits - '0' : *digits - 'a' + 10);
    return value;
}

static u32 typed_waits(void) { return typed_taken - typed_given; }

/*
 * A guest that is to stop first gets what was typed before, as long as it
 * reads: it may be moved, and that would stay behind.
 */
#define PATIENCE 2000000000ull
static bool stop_waits;
static u64 stop_waits_since; /* or since when nothing was read */

static void stop_or_wait(void) {
    if (typed_waits() && port_time() - stop_waits_since < PATIENCE)
        return;
    if (typed_waits())
        report("previrt: the guest does not read: %u bytes that were typed wait", typed_waits());
    stop_waits = false;
    state_stop();
}

void console_order(u8 letter) {
    switch (letter & ~0x20) {
    case 'S':
        stop_waits = true;
        stop_waits_since = port_time();
        break;
    case 'G':
        stop_waits = false;
        state_go_on();
        break;
    case 'L': state_log(); break;
    case 'F': state_features(false); break;
    case 'E': state_log_end(); break;
    case 'Q': console_end(STATUS_DONE);
    }
}

/* What follows CONTROL_BYTE, for us; twice, it is typed. src/targets/command.ts writes them. */
static bool command(u8 byte) {
    static u8 taken[4];
    static u32 length;
    if (!commanded || (!length && byte != CONTROL_BYTE))
        return false;
    if (length == 1 && byte == CONTROL_BYTE) {
        length = 0;
        return false;
    }
    taken[length++] = byte;
    if (length == 1 || (taken[1] == 'R' && length < sizeof taken))
        return true;
    length = 0;
    if (taken[1] == 'R')
        reburn(hexadecimal(taken + 2, 2));
    else
        console_order(taken[1]);
    return true;
}

bool console_listens(void) { return !input_closed && input_next == input_end; }

u64 console_deadline(void) { return stop_waits ? stop_waits_since + PATIENCE : NEVER; }

static void give_typed(void) {
    while (typed_waits() && uart_can_receive()) {
        uart_receive(typed[typed_given++ % TYPED]);
        stop_waits_since = port_time();
    }
    if (stop_waits)
        stop_or_wait();
}

void console_input(bool more) {
    if (more && console_listens()) {
        s32 got = port_receive(input, sizeof input);
        input_closed = got == 0;
        input_next = 0;
        input_end = got > 0 ? got : 0;
    }
    while (input_next < input_end && typed_waits() < TYPED) {
        u8 byte = input[input_next++];
        if (!command(byte) && !escape(&byte))
            typed[typed_taken++ % TYPED] = byte;
        give_typed();
    }
    give_typed();
}
