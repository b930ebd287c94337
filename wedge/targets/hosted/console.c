/*
 * The console: the UART's wire is standard input and output. Input is taken
 * when the guest idles and at each timer tick; Ctrl-A is the escape.
 */

#include <asm/poll.h>

#include "core/port.h"
#include "devices/devices.h"
#include "hosted.h"

#define INPUT 0
#define OUTPUT 1
#define MESSAGES 2
#define ESCAPE 1 /* Ctrl-A */

static u8 output[1024];
static u32 output_length;

static u8 input[256];
static u32 input_next, input_end;
static bool input_closed;
static bool escaped;

static u32 panic_matched;
static bool panicked;

static void write_all(int fd, const u8 *bytes, u32 length) {
    while (length) {
        long written = host_write(fd, bytes, length);
        if (written == -4 /* EINTR */ || written == -11 /* EAGAIN */)
            continue;
        if (written <= 0)
            return; /* nobody listens any more; the guest goes on */
        bytes += written;
        length -= written;
    }
}

void console_flush(void) {
    write_all(OUTPUT, output, output_length);
    output_length = 0;
}

static void finish(int status) {
    console_flush();
    HOST_CALL(__NR_fdatasync, DISK_FD);
    host_exit(status);
}

/* A panic is recognised by what the kernel prints at its end; the rest of that line still comes out. */
static void watch_for_panic(u8 byte) {
    const u8 *pattern = boot.panic_pattern;
    if (!pattern[0])
        return;
    if (panicked && byte == '\n')
        finish(STATUS_PANIC);
    panic_matched = byte == pattern[panic_matched] ? panic_matched + 1 : byte == pattern[0];
    if (panic_matched && !pattern[panic_matched]) {
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

static u32 length_of(const char *text) {
    u32 length = 0;
    while (text[length])
        length++;
    return length;
}

void port_message(const char *text) { write_all(MESSAGES, (const u8 *)text, length_of(text)); }

void port_warn(const char *message) {
    static const char *last;
    if (last == message)
        return;
    last = message;
    port_message("previrt: ");
    port_message(message);
    port_message("\n");
}

void port_reset(void) {
    finish(STATUS_DONE);
    __builtin_unreachable();
}

void port_crashed(void) {
    finish(STATUS_CRASH);
    __builtin_unreachable();
}

/* Ctrl-A x ends the run, Ctrl-A a sends a Ctrl-A; anything else is swallowed with it. */
static bool escape(u8 *byte) {
    if (!boot.escape)
        return false;
    if (!escaped) {
        escaped = *byte == ESCAPE;
        return escaped;
    }
    escaped = false;
    if (*byte == 'x')
        finish(STATUS_DONE);
    if (*byte != 'a' && *byte != ESCAPE)
        return true;
    *byte = ESCAPE;
    return false;
}

static void take_input(void) {
    long got = host_read(INPUT, input, sizeof input);
    if (got <= 0) {
        input_closed = got != -4 && got != -11;
        return;
    }
    input_next = 0;
    input_end = got;
}

static void feed_uart(void) {
    while (input_next < input_end && uart_can_receive()) {
        u8 byte = input[input_next++];
        if (!escape(&byte))
            uart_receive(byte);
    }
}

void console_wait(const struct __kernel_timespec *timeout) {
    bool listening = !input_closed && input_next == input_end;
    struct pollfd input_poll = {.fd = INPUT, .events = POLLIN};
    struct __kernel_timespec copy = *timeout;
    long ready = HOST_CALL(__NR_ppoll, &input_poll, listening, &copy, NULL, 8);
    if (ready > 0)
        take_input();
    feed_uart();
}

void console_poll(void) {
    static const struct __kernel_timespec now = {0};
    console_wait(&now);
}
