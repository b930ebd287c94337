/* Reads instructions as lines of hexadecimal bytes, writes what the wedge's decoder makes of each. */

#include <stdio.h>

#include "core/cpu.h"
#include "core/decode.h"

struct cpu cpu;

int main(void) {
    char line[128];
    while (fgets(line, sizeof line, stdin)) {
        u8 bytes[MAX_INSTRUCTION];
        unsigned count = 0, byte;
        for (char *at = line; count < sizeof bytes && sscanf(at, "%2x", &byte) == 1; at += 2)
            bytes[count++] = byte;
        struct instruction i;
        if (!decode(bytes, count, &i))
            puts("-");
        else
            printf("%u %u %u %u\n", i.length, i.memory, i.memory ? i.segment : 0, i.memory ? i.displacement : 0);
    }
    return 0;
}
