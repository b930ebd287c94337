/*
 * What the guest announces: flushes, and entries that are no longer what they
 * were. Mappings are compared with the entries that they were filled from.
 */

#include "core/port.h"
#include "cache.h"

/* Whether a mapping that was filled from `old` may stay now that the entry is `now`. */
static bool still_valid(u32 old, u32 now) {
    const u32 same = PAGE_MASK | PTE_P | PTE_U | PTE_A;
    if ((old ^ now) & same)
        return false;
    return !(old & MAPPED_WRITABLE) || ((now & PTE_D) && ((now & PTE_W) || !(cpu.cr0 & CR0_WP)));
}

static bool stays_global(u32 entry, bool global) {
    return !global && (entry & PTE_G) && (cpu.cr4 & CR4_PGE);
}

/* Set while a region is looked at in another table than before. */
static bool table_moved;

/*
 * Runs of pages whose mappings must go, with the holes between them, are unmapped by one call.
 * True if all mappings stay as they are. Made twice, for entries of both widths.
 */
static inline __attribute__((always_inline)) bool revalidate_entries(u32 region, const u32 *table, u32 kept,
                                                                     bool wide) {
    struct region *r = *place(current, region);
    u32 base = region * REGION_PAGES, start = 0, length = 0;
    bool same = true;
    for (u32 word = 0; word < REGION_PAGES / 32; word++) {
        if (!r->occupied[word] || (kept && !(r->local >> word & 1)))
            continue;
        /* Mostly nothing has changed, and that says all unless CR0.WP counts. */
        const bool plain = table && !lax;
        u32 differing = plain ? 0 : ~0u, common = PTE_G;
        for (u32 bits = plain ? r->occupied[word] : 0; bits; bits &= bits - 1) {
            u32 i = word * 32 + __builtin_ctz(bits), entry = r->filled[i];
            differing |= entry ^ table_entry(table, i, wide);
            common &= entry;
        }
        if (likely(!(differing & ~(u32)ENTRY_IGNORED))) {
            if (common)
                r->local &= ~(1u << word);
            if (length)
                drop_pages(start, length);
            length = 0;
            continue;
        }
        same = false;
        for (u32 bits = r->occupied[word]; bits; bits &= bits - 1) {
            u32 i = word * 32 + __builtin_ctz(bits);
            u32 entry = r->filled[i];
            bool valid = entry & kept;
            if (!valid && table) {
                u32 is = table_entry(table, i, wide) & ~(u32)ENTRY_IGNORED;
                if (unlikely(mmu_counts_late) && !table_moved && ((entry ^ is) & ~(u32)ENTRY_IGNORED))
                    count_late(region, r->directory, i, wide);
                valid = entry && still_valid(entry, is);
                if (valid)
                    entry = r->filled[i] = is | (entry & MAPPED_WRITABLE);
            }
            if (likely(valid)) {
                if (length)
                    drop_pages(start, length);
                length = 0;
            } else if (entry) { /* none after mmu_drop_all */
                remember_dropped(base + i);
                if (!length)
                    start = base + i;
                length = base + i + 1 - start;
            }
        }
    }
    if (length)
        drop_pages(start, length);
    if (!r->local)
        exclude(local(current, region), region);
    return same;
}

static bool revalidate_pages(u32 region, const u32 *table, u32 kept) {
    return pae() ? revalidate_entries(region, table, kept, true) : revalidate_entries(region, table, kept, false);
}

/* Whether none of the guest's entries that a region was filled from has been written to since they were compared. */
static bool unwritten(const struct region *r, u32 region) {
    return r->compared && r->directory_page == directory_page(region << REGION_SHIFT) &&
           !port_page_written(r->directory_page, r->compared) &&
           (is_large(r->directory) || !port_page_written(r->directory >> 12, r->compared));
}

/*
 * Pages of the guest's tables that are worth watching, since a flush has found
 * nothing new in them; from its end on.
 */
static u32 quiet[QUIET_PAGES], quiet_count;
static bool all_quiet; /* they are all that the space's regions were filled from */

static void note_page(u32 page) {
    for (u32 i = 0; i < quiet_count; i++)
        if (quiet[i] == page)
            return;
    if (quiet_count < QUIET_PAGES)
        quiet[quiet_count++] = page;
    else
        all_quiet = false;
}

static void note_quiet(const struct region *r) {
    note_page(r->directory_page);
    if (!is_large(r->directory))
        note_page(r->directory >> 12);
}

static void watch_quiet(void) {
    for (u32 i = 0; i < quiet_count; i++)
        if (port_page_written(quiet[i], flushes) && !port_page_watch(quiet[i], flushes))
            all_quiet = false;
    current->quiet_count = 0;
    if (!all_quiet || pae()) /* where other directories may come in */
        return;
    memcpy(current->quiet, quiet, quiet_count * sizeof quiet[0]);
    current->quiet_count = quiet_count;
    current->quiet_since = flushes;
}

static bool space_is_quiet(const struct space *space) {
    for (u32 i = 0; i < space->quiet_count; i++)
        if (port_page_written(space->quiet[i], space->quiet_since))
            return false;
    return space->quiet_count && !lax;
}

static void revalidate_region(u32 region, bool global) {
    struct region *r = *place(current, region);
    if (!r)
        return; /* after mmu_drop_all */
    if (!lax && unwritten(r, region)) {
        note_quiet(r);
        return;
    }
    bool was_quiet = all_quiet;
    all_quiet = false;
    u32 old = r->directory, is = current_directory(region);
    if (is_large(old)) {
        /* While the log is kept, pages of it may be writable that are not the first. */
        u32 filled = r->filled[0] | (log_kept ? MAPPED_WRITABLE : 0);
        if (!stays_global(old, global) && !(is_large(is) && still_valid(filled, is & (LARGE_MASK | LARGE_FLAGS))))
            drop_region(region);
        return;
    }
    /* Another table is as good where its entries agree: address spaces have pages in common. */
    bool comparable = !((old ^ is) & (PTE_P | PTE_W | PTE_U | PTE_A | PTE_PS));
    const u32 *table = comparable ? table_pointer(is, region << REGION_SHIFT) : NULL;
    bool moved = table_moved = (old ^ is) & PAGE_MASK;
    if (table)
        r->directory = is;
    const u32 kept = !global && (cpu.cr4 & CR4_PGE) ? PTE_G : 0;
    bool same = revalidate_pages(region, table, kept);
    if (kept || !table || !*place(current, region))
        return;
    r->compared = flushes;
    r->directory_page = directory_page(region << REGION_SHIFT);
    if (same && !moved) {
        note_quiet(r);
        all_quiet = was_quiet;
    }
}

static void revalidate_regions(const struct region_set *set, bool global) {
    FOR_REGIONS(region, set)
        revalidate_region(region, global);
}

void mmu_flush(bool global) {
    u32 before = current->cr3;
    flushes++;
    bool only = port_spaces() == 1, switched = enter_space(current_cr3());
    if (switched && only)
        leave_warm(before);
    /* What was mapped in another space is as old as the time since. */
    bool renewed = switched && !only, globals_stay = !global && (cpu.cr4 & CR4_PGE);
    bool whole = renewed || !globals_stay;
    if (!space_is_quiet(current)) {
        quiet_count = 0;
        all_quiet = whole;
        revalidate_regions(whole ? &current->occupied : &current->local, whole);
        watch_quiet();
    }
    revalidate_regions(globals_stay ? &common_local : &common_occupied, global);
    if (switched && only)
        enter_warm(current->cr3);
}

void mmu_invalidate_page(gva_t address) {
    u32 page = address.value >> 12, region = address.value >> REGION_SHIFT, buddy = region ^ 1;
    const struct region *r = *place(current, region), *other = *place(current, buddy);
    /* Two regions are one page of 4 MiB, and go together. */
    if (other && is_large(other->directory) && !pae())
        revalidate_region(buddy, true);
    u32 old = filled_entry(page);
    if (!old)
        return;
    if (is_large(r->directory)) {
        revalidate_region(region, true);
        return;
    }
    u32 directory = current_directory(region);
    const u32 *table = directory & PTE_P && !is_large(directory) ? table_pointer(directory, address.value) : NULL;
    if (!table || ((directory ^ r->directory) & (PAGE_MASK | PTE_W | PTE_U)) ||
        !still_valid(old, table_entry(table, page % REGION_PAGES, pae())))
        drop_pages(page, 1);
}
