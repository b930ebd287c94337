/*
 * Which pages of guest RAM have been written to, by the dirty bits of the page
 * tables that Xen uses. A page can be watched while no more than one mapping
 * of it is writable, and that one lies where all spaces have the same: in the
 * kernel's own map of memory, as the guest's page tables do.
 */

#include "core/port.h"
#include "mmu/mmu.h"
#include "xen.h"

/* By page of guest RAM: how many writable mappings there are, and where the last one was made that all spaces have. */
#define AT_BITS 20
#define AT_MASK ((1u << AT_BITS) - 1)
#define ONE_WRITER (1u << AT_BITS)
#define MANY_WRITERS 0xfffu /* or more: it stays so */

static u32 *mappings;
static u32 pages;

/*
 * The pages that are watched, by their number plus one. While one is, its
 * writable mapping stays the same one, if it has any, and Xen's entry for it the
 * word that is expected; anything else that is found there means that it was written to.
 */
static struct watch {
    u32 page, since;
    const u32 *entry; /* NULL: it has none */
    u32 expected;
} watches[1024];

static struct watch *watch_of(u32 page) { return &watches[page % ARRAY_SIZE(watches)]; }

static void forget(u32 page) {
    struct watch *watch = watch_of(page);
    if (watch->page == page + 1)
        watch->page = 0;
}

void written_start(u32 ram_pages) {
    pages = ram_pages;
    mappings = memory_grow((pages * sizeof mappings[0] + PAGE_SIZE - 1) / PAGE_SIZE);
}

static u32 writers(u32 page) { return mappings[page] >> AT_BITS; }

void written_mapped(u32 page, u32 at) {
    if (at >= COMMON_BASE >> 12)
        mappings[page] = (mappings[page] & ~AT_MASK) | at;
    if (writers(page) != MANY_WRITERS)
        mappings[page] += ONE_WRITER;
    forget(page);
}

void port_page_unmapped(u32 page) {
    if (page >= pages)
        return;
    if (writers(page) != MANY_WRITERS)
        mappings[page] -= ONE_WRITER;
    forget(page); /* whatever it has told is lost */
}

void port_ram_written(gpa_t address, u32 size) {
    log_written(address, size);
    u32 last = (address.value + size - 1) >> 12;
    for (u32 page = address.value >> 12; page <= last; page++)
        forget(page);
}

/* Xen's entry for the one writable mapping of a page, if it can be read. */
static const u64 *only_entry(u32 page) {
    mfn_t machine;
    const u64 *entry = writers(page) == 1 ? shadow_common_entry(mappings[page] & AT_MASK) : NULL;
    bool ours = entry && (*entry & PTE_P) && (*entry & PTE_W) && memory_machine_page(page, &machine) &&
                (*entry >> 12 & 0xffffffff) == machine.value;
    return ours ? entry : NULL;
}

bool port_page_written(u32 page, u32 then) {
    const struct watch *watch = watch_of(page);
    if (watch->page != page + 1 || then < watch->since)
        return true;
    return watch->entry && *watch->entry != watch->expected;
}

bool port_page_watch(u32 page, u32 now) {
    struct watch watch = {.page = page + 1, .since = now};
    if (page >= pages || writers(page) > 1)
        return false;
    if (writers(page)) {
        const u64 *entry = only_entry(page);
        if (!entry)
            return false;
        shadow_change_common_entry(mappings[page] & AT_MASK, *entry & ~(u64)PTE_D);
        watch.entry = (const u32 *)entry;
        watch.expected = *entry & ~(u64)PTE_D;
    }
    *watch_of(page) = watch;
    return true;
}
