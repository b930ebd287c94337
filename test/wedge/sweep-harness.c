/* Reads instructions as lines of hexadecimal bytes, writes the length of each and whether the sweep would make it trap. */

#include <stdio.h>

#include "core/cpu.h"
#include "core/decode.h"
#include "run/burn.h"

struct cpu cpu;

int main(void) {
    char line[128];
    while (fgets(line, sizeof line, stdin)) {
        u8 bytes[MAX_INSTRUCTION];
        unsigned count = 0, byte;
        for (char *at = line; count < sizeof bytes && sscanf(at, "%2x", &byte) == 1; at += 2)
            bytes[count++] = byte;
        struct instruction i;
        unsigned length = decode_length(bytes, count, &i);
        printf("%u %d\n", length, length && sweep_finds(&i));
    }
    return 0;
}
