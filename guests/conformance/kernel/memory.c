/* What gcc calls even in freestanding code. */
#include "guest.h"

void *memset(void *to, int byte, u32 size) {
    u8 *at = to;
    while (size--)
        *at++ = (u8)byte;
    return to;
}

void *memcpy(void *to, const void *from, u32 size) {
    u8 *at = to;
    const u8 *source = from;
    while (size--)
        *at++ = *source++;
    return to;
}

int memcmp(const void *a, const void *b, u32 size) {
    const u8 *x = a, *y = b;
    for (; size--; x++, y++)
        if (*x != *y)
            return *x - *y;
    return 0;
}
