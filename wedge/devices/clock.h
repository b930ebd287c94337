/* Conversion between nanoseconds and a device's clock, exact at any length of time. */
#ifndef PREVIRT_DEVICES_CLOCK_H
#define PREVIRT_DEVICES_CLOCK_H

#include "core/types.h"

#define NANOSECONDS 1000000000u

/*
 * number / divisor and the remainder. i386 code that divides 64-bit numbers
 * with `/` would call libgcc, which the wedge does not have.
 */
static inline u64 divide(u64 number, u32 divisor, u32 *remainder) {
#ifdef __x86_64__
    *remainder = (u32)(number % divisor);
    return number / divisor;
#else
    u32 high = (u32)(number >> 32), low, rest;
    u32 high_quotient = high / divisor;
    __asm__("divl %4" : "=a"(low), "=d"(rest) : "0"((u32)number), "1"(high % divisor), "r"(divisor) : "cc");
    *remainder = rest;
    return (u64)high_quotient << 32 | low;
#endif
}

/* Whole clocks of a device that runs at `hertz` within `time` nanoseconds. */
static inline u64 clocks_from_time(u64 time, u32 hertz) {
    u32 rest, unused;
    u64 seconds = divide(time, NANOSECONDS, &rest);
    return seconds * hertz + divide((u64)rest * hertz, NANOSECONDS, &unused);
}

/* The shortest time in nanoseconds that holds so many clocks. */
static inline u64 time_from_clocks(u64 clocks, u32 hertz) {
    u32 rest, unused;
    u64 seconds = divide(clocks, hertz, &rest);
    return seconds * NANOSECONDS + divide((u64)rest * NANOSECONDS + hertz - 1, hertz, &unused);
}

#endif
