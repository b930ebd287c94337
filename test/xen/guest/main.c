/*
 * Does what the words of its command line say, one after the other:
 *
 *   print:TEXT   writes TEXT, "_" as a space and "|" as the end of a line
 *   fill:N       writes N lines with their numbers
 *   line         reads to the end of a line, and writes it back
 *   shutdown:N   asks Xen for a shutdown with reason N
 *   invalid      executes an invalid instruction
 *   spin         does nothing, for ever
 */
typedef unsigned char uint8_t;
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long long int64_t;
typedef unsigned int size_t;
#define _STDINT_H 1
#define __XEN_INTERFACE_VERSION__ 0x00040e00
#include <xen/xen.h>
#include <xen/event_channel.h>
#include <xen/io/console.h>
#include <xen/sched.h>

extern char hypercalls[];

static long hypercall(long number, long a, long b, long c) {
    long result;
    __asm__ volatile("call *%%eax"
                     : "=a"(result), "+b"(a), "+c"(b), "+d"(c)
                     : "0"(hypercalls + number * 32)
                     : "memory");
    return result;
}

static start_info_t *info;
/* Of a domain that is not the initial one: the page it shares with the console's other end. */
static struct xencons_interface *ring;

/* Xen's table of physical pages by machine page (x86_32 public headers). */
static const unsigned long *const machine_to_phys = (const void *)0xf5800000;

static void console_find(void) {
    if (info->flags & SIF_INITDOMAIN)
        return;
    ring = (void *)(VIRT_BASE + (machine_to_phys[info->console.domU.mfn] << 12));
}

static void yield(void) { hypercall(__HYPERVISOR_sched_op, SCHEDOP_yield, 0, 0); }

static void console_kick(void) {
    evtchn_send_t send = {info->console.domU.evtchn};
    hypercall(__HYPERVISOR_event_channel_op, EVTCHNOP_send, (long)&send, 0);
}

static void put(char byte) {
    if (!ring) {
        hypercall(__HYPERVISOR_console_io, CONSOLEIO_write, 1, (long)&byte);
        return;
    }
    volatile XENCONS_RING_IDX *produced = &ring->out_prod, *consumed = &ring->out_cons;
    while (*produced - *consumed == sizeof ring->out)
        yield();
    ring->out[MASK_XENCONS_IDX(*produced, ring->out)] = byte;
    __sync_synchronize();
    ++*produced;
    console_kick();
}

static char get(void) {
    char byte;
    if (!ring) {
        while (hypercall(__HYPERVISOR_console_io, CONSOLEIO_read, 1, (long)&byte) != 1)
            yield();
        return byte;
    }
    volatile XENCONS_RING_IDX *produced = &ring->in_prod, *consumed = &ring->in_cons;
    while (*produced == *consumed)
        yield();
    byte = ring->in[MASK_XENCONS_IDX(*consumed, ring->in)];
    __sync_synchronize();
    ++*consumed;
    console_kick();
    return byte;
}

static void put_number(unsigned number) {
    if (number >= 10)
        put_number(number / 10);
    put('0' + number % 10);
}

/* What follows `name` in the word, or null. */
static const char *after(const char *word, const char *name) {
    while (*name)
        if (*word++ != *name++)
            return 0;
    return word;
}

static unsigned number_at(const char *text) {
    unsigned number = 0;
    while (*text >= '0' && *text <= '9')
        number = number * 10 + (*text++ - '0');
    return number;
}

static void do_word(const char *word) {
    const char *rest;
    if ((rest = after(word, "print:"))) {
        for (; *rest && *rest != ' '; rest++)
            put(*rest == '_' ? ' ' : *rest == '|' ? '\n' : *rest);
    } else if ((rest = after(word, "fill:"))) {
        for (unsigned line = 0, lines = number_at(rest); line < lines; line++) {
            put_number(line);
            put('\n');
        }
    } else if (after(word, "line")) {
        char byte;
        do
            put(byte = get());
        while (byte != '\n');
    } else if ((rest = after(word, "shutdown:"))) {
        sched_shutdown_t shutdown = {number_at(rest)};
        hypercall(__HYPERVISOR_sched_op, SCHEDOP_shutdown, (long)&shutdown, 0);
    } else if (after(word, "invalid")) {
        __asm__ volatile("ud2");
    } else if (after(word, "spin")) {
        for (;;)
            yield();
    }
}

_Noreturn void guest_main(start_info_t *start) {
    info = start;
    console_find();
    for (const char *word = (const char *)info->cmd_line; *word; word++)
        if (word == (const char *)info->cmd_line || word[-1] == ' ')
            do_word(word);
    for (;;)
        yield();
}
