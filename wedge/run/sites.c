/*
 * The patch table: from an address to the site. A burned call's return address
 * is the site's end. Boot code runs before paging at its physical address, so
 * a miss is tried again at the linked one.
 */

#include "core/decode.h"
#include "run.h"

static const struct patch_entry *table;
static u32 table_count;
static u32 link_offset;

void sites_start(const struct patch_entry *entries, u32 count, u32 offset) {
    table = entries;
    table_count = count;
    link_offset = offset;
}

/* The last site that starts at or before an address. */
static const struct patch_entry *at_or_before(u32 address) {
    u32 low = 0, high = table_count;
    while (low < high) {
        u32 middle = (low + high) / 2;
        if (table[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &table[low - 1] : NULL;
}

static const struct patch_entry *ending_at(u32 end) {
    const struct patch_entry *site = at_or_before(end - 1);
    return site && site->address + site->length == end ? site : NULL;
}

u32 site_filler(const struct patch_entry *site) {
    return site->flags & SITE_interiorBoundary ? site->widening : 0;
}

bool site_opens_shadow(const struct patch_entry *site) {
    struct instruction i;
    u32 filler = site_filler(site);
    if (!decode(site->original + filler, site->length - filler, &i))
        return false;
    if (i.map == 1)
        return i.opcode == 0xb2; /* lss */
    return i.opcode == 0xfb || i.opcode == 0x17 || (i.opcode == 0x8e && i.reg == SS);
}

/* Recent answers, by return address. */
static struct {
    u32 end;
    const struct patch_entry *site;
} recent[256];

const struct patch_entry *site_by_end(u32 end, u32 *moved) {
    u32 slot = end % ARRAY_SIZE(recent);
    *moved = 0;
    if (recent[slot].end == end && recent[slot].site)
        return recent[slot].site;
    const struct patch_entry *site = ending_at(end);
    if (site) {
        recent[slot].end = end;
        recent[slot].site = site;
        return site;
    }
    *moved = -link_offset;
    return ending_at(end + link_offset);
}

const struct patch_entry *site_by_start(u32 start, u32 *moved) {
    const struct patch_entry *site = at_or_before(start);
    *moved = 0;
    if (site && site->address == start)
        return site;
    site = at_or_before(start + link_offset);
    *moved = -link_offset;
    return site && site->address == start + link_offset ? site : NULL;
}
