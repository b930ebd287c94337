/*
 * Alternatives: instructions that a Linux kernel copies over others of a
 * module's text when it loads it, by what the processor can do; as
 * src/sites/alternatives.ts reads them of a kernel.
 */

#include "burn.h"
#include "generated/alternatives.h"
#include "mmu/mmu.h"

static struct {
    u32 table, count, next;
    u32 layout; /* of ALTERNATIVE_LAYOUTS */
} open;

static bool read_one(u32 index, struct alternative *alternative) {
    u32 size = alternative_layouts[open.layout].size, at = open.table + index * size;
    u8 bytes[16];
    s32 offsets[2]; /* each from where it stands */
    if (!guest_read(gva(at), bytes, size, 0))
        return false;
    memcpy(offsets, bytes, sizeof offsets);
    *alternative = (struct alternative){
        .target = at + (u32)offsets[0],
        .replacement = at + 4 + (u32)offsets[1],
        .target_length = bytes[alternative_layouts[open.layout].target_length],
        .length = bytes[alternative_layouts[open.layout].length],
    };
    return true;
}

bool alternatives_open(u32 table, u32 size, bool (*is_possible)(const struct alternative *)) {
    struct alternative one;
    open.table = table;
    open.next = 0;
    for (open.layout = 0; open.layout < ARRAY_SIZE(alternative_layouts); open.layout++) {
        u32 each = alternative_layouts[open.layout].size, good = 0;
        open.count = size / each;
        while (good < open.count && read_one(good, &one) && is_possible(&one))
            good++;
        if (size % each == 0 && good == open.count)
            return true;
    }
    open.count = 0;
    return false;
}

bool alternatives_next(struct alternative *alternative) {
    return open.next < open.count && read_one(open.next++, alternative);
}
