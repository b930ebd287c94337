/*
 * For osbench, included before it: markers for bench/regions.c where it reads
 * the clock, before and after each batch, and where a row has been printed.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <time.h>

static inline int counted_clock_gettime(clockid_t clock, struct timespec *time)
{
    __asm__ volatile("xchg %%bx, %%bx" ::: "memory"); /* 66 87 db */
    return clock_gettime(clock, time);
}

static inline int counted_fflush(FILE *stream)
{
    int result = fflush(stream);
    __asm__ volatile("xchg %%cx, %%cx" ::: "memory"); /* 66 87 c9 */
    return result;
}

#define clock_gettime counted_clock_gettime
#define fflush counted_fflush
