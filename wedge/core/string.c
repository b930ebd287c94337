/*
 * The four functions that gcc expects of every environment (GCC manual,
 * "Standards"). It makes calls of them itself, after all files have been seen.
 */

#include "types.h"

#define CALLED_BY_GCC __attribute__((externally_visible))

CALLED_BY_GCC void *memcpy(void *restrict to, const void *restrict from, usize size) {
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
    return start;
}

CALLED_BY_GCC void *memset(void *to, int byte, usize size) {
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(byte) : "memory");
    return start;
}

CALLED_BY_GCC void *memmove(void *to, const void *from, usize size) {
    u8 *d = to;
    const u8 *s = from;
    if (d <= s || d >= s + size)
        return memcpy(to, from, size);
    while (size--)
        d[size] = s[size];
    return to;
}

CALLED_BY_GCC int memcmp(const void *a, const void *b, usize size) {
    const u8 *x = a, *y = b;
    for (; size; size--, x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}
