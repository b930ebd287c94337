/*
 * The cache: which mappings the target holds, and from which of the guest's
 * entries they were filled.
 *
 * Rights grow only through faults, and a guest announces every reduction
 * (invlpg, cr3), so nothing here traps page-table writes: at a flush the
 * entries are compared with what they are now, and only mappings whose entry
 * has changed go.
 *
 * A target may hold several address spaces at once. Each is known by its CR3
 * and compared when it becomes current; so a process that comes back finds its
 * pages mapped. From COMMON_BASE on, where kernels live, all have the same mappings.
 *
 * A guest may skip the flush where A was clear (or D, for writing). So nothing
 * is mapped without A, nothing writable without D, and the walk alone sets them.
 */

#include "cache.h"

/* Regions that can have mappings at a time. */
#ifndef REGION_POOL
#define REGION_POOL REGIONS
#endif

#define SPACES 16u
#define NO_CR3 1u /* not aligned */

static struct space spaces[SPACES] = {[0 ... SPACES - 1] = {.cr3 = NO_CR3}};
struct space *current = &spaces[0];
u32 flushes;

struct region *common_regions[REGIONS - COMMON];
struct region_set common_occupied, common_local;

static struct region pool[REGION_POOL];
static struct region *unused[REGION_POOL];
static u32 unused_count, handed_out;

u32 runs;
bool lax;
static u32 evict_next;

static void clear_pages(struct region *r) {
    for (u32 word = 0; word < REGION_PAGES / 32; word++) {
        for (u32 bits = r->occupied[word]; bits; bits &= bits - 1)
            clear_page(r, word * 32 + __builtin_ctz(bits));
        r->occupied[word] = 0;
    }
}

static void forget_region(struct space *space, u32 region) {
    struct region **at = place(space, region), *r = *at;
    clear_pages(r);
    runs -= r->runs;
    r->count = r->runs = r->local = 0;
    unused[unused_count++] = r;
    *at = NULL;
    exclude(occupied(space, region), region);
    exclude(local(space, region), region);
}

static void forget_space(struct space *space) {
    FOR_REGIONS(region, &space->occupied)
        forget_region(space, region);
}

void mmu_drop_all(void) {
    port_unmap_all();
    for (u32 i = 0; i < SPACES; i++) {
        forget_space(&spaces[i]);
        if (&spaces[i] != current)
            spaces[i].cr3 = NO_CR3;
    }
    FOR_REGIONS(region, &common_occupied)
        forget_region(current, region);
    lax = false;
}

void drop_region(u32 region) {
    if (!*place(current, region))
        return;
    if (port_unmap(gva(region << REGION_SHIFT), REGION_PAGES))
        forget_region(current, region);
    else
        mmu_drop_all();
}

static void drop_space(struct space *space) {
    port_space_forget(space - spaces);
    forget_space(space);
    space->quiet_count = 0;
    space->cr3 = NO_CR3;
}

static bool is_free(const struct space *space) { return space->cr3 == NO_CR3; }

static bool is_any(const struct space *space) { return space; }

static bool holds_something(const struct space *space) {
    u32 any = 0;
    for (u32 i = 0; i < ARRAY_SIZE(space->occupied.used); i++)
        any |= space->occupied.used[i];
    return any;
}

/* Among those that the target can hold, but for the current one, and that are as asked: which was current longest ago. */
static struct space *oldest_space(bool (*is_wanted)(const struct space *)) {
    struct space *oldest = NULL;
    for (u32 i = 0; i < port_spaces() && i < SPACES; i++) {
        struct space *space = &spaces[i];
        if (space != current && is_wanted(space) && (!oldest || space->entered < oldest->entered))
            oldest = space;
    }
    return oldest;
}

void evict(u32 keep) {
    struct space *space = oldest_space(holds_something);
    if (space) {
        drop_space(space);
        return;
    }
    for (u32 tried = 0; tried < REGIONS; tried++) {
        u32 region = evict_next++ % REGIONS;
        if (region != keep && *place(current, region)) {
            drop_region(region);
            return;
        }
    }
    drop_region(keep);
}

struct region *need_region(u32 region) {
    struct region **at = place(current, region);
    if (*at)
        return *at;
    if (!unused_count && handed_out == REGION_POOL)
        evict(region);
    *at = unused_count ? unused[--unused_count] : &pool[handed_out++];
    (*at)->compared = 0;
    current->quiet_count = 0;
    include(occupied(current, region), region);
    return *at;
}

void drop_pages(u32 page, u32 count) {
    u32 region = page / REGION_PAGES;
    struct region *r = *place(current, region);
    if (!port_unmap(gva(page << 12), count)) {
        mmu_drop_all();
        return;
    }
    for (u32 i = page % REGION_PAGES, end = i + count; i < end; i++) {
        r->count -= r->filled[i] != 0;
        clear_page(r, i);
        r->occupied[i / 32] &= ~(1u << i % 32);
    }
    if (!r->count)
        forget_region(current, region);
}

bool enter_space(u32 cr3) {
    if (current->cr3 == cr3)
        return false;
    struct space *next = NULL;
    for (u32 i = 0; i < SPACES && !next; i++)
        if (spaces[i].cr3 == cr3)
            next = &spaces[i];
    if (!next) {
        next = oldest_space(is_free);
        if (!next)
            next = oldest_space(is_any);
        if (!next) {
            current->cr3 = cr3; /* the only one there is */
            return true;
        }
        if (!is_free(next))
            drop_space(next);
        next->cr3 = cr3;
    }
    current = next;
    current->entered = flushes;
    port_space_enter(current - spaces);
    return true;
}

void mmu_mode_changed(void) {
    mmu_drop_all();
    current->cr3 = current_cr3();
}

void mmu_enter_user(void) {
    if (unlikely(lax))
        mmu_drop_all();
}

void port_devices_moved(void) { mmu_mode_changed(); }
