/*
 * Eyes: the trace ring of what the virtual CPU did last, and the end of a guest
 * that lost itself.
 */
#ifndef PREVIRT_CRASH_H
#define PREVIRT_CRASH_H

#include "types.h"

enum trace_event {
    TRACE_SITE,      /* info: site kind */
    TRACE_TRAP,      /* info: host signal */
    TRACE_EXCEPTION, /* info: vector | error << 8 */
    TRACE_INTERRUPT, /* info: vector */
    TRACE_FILL,      /* info: faulting address */
};

/* `eip` is guest-virtual. */
void trace(enum trace_event event, u32 eip, u32 info);

/* A line for whoever runs the guest. Understands %u, %x and %s. */
void report(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Ends the guest: a message like that, the virtual CPU, the trace ring. */
void crash(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

#endif
