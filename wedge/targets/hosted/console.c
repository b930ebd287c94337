/* The console is standard input and output; messages go to standard error. */

#include <asm/poll.h>

#include "core/port.h"
#include "hosted.h"
#include "run/state.h"

#define INPUT 0
#define OUTPUT 1
#define MESSAGES 2

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

void port_transmit(const u8 *bytes, u32 length) { write_all(OUTPUT, bytes, length); }

s32 port_receive(u8 *bytes, u32 size) {
    long got = host_read(INPUT, bytes, size);
    return got < 0 && got != -4 && got != -11 ? 0 : got; /* what cannot be read has ended */
}

static u32 length_of(const char *text) {
    u32 length = 0;
    while (text[length])
        length++;
    return length;
}

void port_message(const char *text) { write_all(MESSAGES, (const u8 *)text, length_of(text)); }

void port_end(int status) {
    HOST_CALL(__NR_fdatasync, DISK_FD);
    host_exit(status);
}

/* The launcher knows: it has told us to go on. */
void port_hide_state(void) {}

void port_wait_input(void) {
    struct pollfd input_poll = {.fd = INPUT, .events = POLLIN};
    HOST_CALL(__NR_ppoll, &input_poll, 1, NULL, NULL, 8);
}

void console_wait(const struct __kernel_timespec *timeout) {
    struct pollfd input_poll = {.fd = INPUT, .events = POLLIN};
    struct __kernel_timespec copy = *timeout;
    console_input(HOST_CALL(__NR_ppoll, &input_poll, console_listens(), &copy, NULL, 8) > 0);
}

void console_poll(void) {
    static const struct __kernel_timespec now = {0};
    console_wait(&now);
}
