/*
 * The console: the UART's wire to whoever runs the guest. Input is taken when
 * the guest idles and at each timer tick; Ctrl-A is the escape.
 */

#include "burn.h"
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

void console_order(u8 letter) {
    switch (letter & ~0x20) {
    case 'S': state_stop(); break;
    case 'G': state_go_on(); break;
    case 'L': state_log(); break;
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

void console_input(bool more) {
    if (more && console_listens()) {
        s32 got = port_receive(input, sizeof input);
        input_closed = got == 0;
        input_next = 0;
        input_end = got > 0 ? got : 0;
    }
    while (input_next < input_end && uart_can_receive()) {
        u8 byte = input[input_next++];
        if (!command(byte) && !escape(&byte))
            uart_receive(byte);
    }
}
