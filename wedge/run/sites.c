/*
 * The patch table: from an address to the site. A burned call's return address
 * is the site's end. Boot code runs before paging at its physical address, so
 * a miss is tried again at the linked one.
 *
 * The kernel's own sites come with the image; those of its modules are added
 * and removed.
 */

#include "core/decode.h"
#include "run.h"

struct table {
    struct patch_entry *entries; /* sorted by address */
    u32 count;
};

static struct table kernel;
static u32 link_offset;

static struct patch_entry added[MODULE_SITES];
static struct table modules = {.entries = added};

void sites_start(struct patch_entry *entries, u32 count, u32 offset) {
    kernel = (struct table){entries, count};
    link_offset = offset;
}

/* How many sites of a table start at or before an address. */
static u32 count_up_to(const struct table *table, u32 address) {
    u32 low = 0, high = table->count;
    while (low < high) {
        u32 middle = (low + high) / 2;
        if (table->entries[middle].address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The last site that starts at or before an address. */
static const struct patch_entry *at_or_before(u32 address) {
    u32 known = count_up_to(&kernel, address), more = count_up_to(&modules, address);
    const struct patch_entry *of_kernel = known ? &kernel.entries[known - 1] : NULL;
    const struct patch_entry *of_module = more ? &modules.entries[more - 1] : NULL;
    return of_module && (!of_kernel || of_module->address > of_kernel->address) ? of_module : of_kernel;
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

u32 sites_of_kernel(const struct patch_entry **entries, u32 *offset) {
    *entries = kernel.entries;
    *offset = link_offset;
    return kernel.count;
}

u32 sites_of_modules(const struct patch_entry **entries) {
    *entries = modules.entries;
    return modules.count;
}

void sites_each(void (*act)(struct patch_entry *site)) {
    for (u32 i = 0; i < kernel.count; i++)
        act(&kernel.entries[i]);
    for (u32 i = 0; i < modules.count; i++)
        act(&modules.entries[i]);
}

/* --- Modules --- */

u32 sites_room(void) { return MODULE_SITES - modules.count; }

bool sites_are_kernels(u32 start, u32 end) {
    u32 before = count_up_to(&kernel, end - 1);
    const struct patch_entry *last = before ? &kernel.entries[before - 1] : NULL;
    return last && last->address + last->length > start;
}

void sites_add(const struct patch_entry *sites, u32 count) {
    memset(recent, 0, sizeof recent);
    for (u32 done = 0, run; done < count; done += run) {
        /* As many at once as go to the same place: a module's text mostly does. */
        u32 place = count_up_to(&modules, sites[done].address);
        u32 limit = place < modules.count ? added[place].address : ~0u;
        for (run = 1; done + run < count && sites[done + run].address < limit; run++)
            ;
        memmove(&added[place + run], &added[place], (modules.count - place) * sizeof added[0]);
        memcpy(&added[place], &sites[done], run * sizeof added[0]);
        modules.count += run;
    }
}

void sites_remove(bool (*which)(const struct patch_entry *site, const void *argument), const void *argument) {
    u32 kept = 0;
    memset(recent, 0, sizeof recent);
    for (u32 i = 0; i < modules.count; i++)
        if (!which(&added[i], argument))
            added[kept++] = added[i];
    modules.count = kept;
}
