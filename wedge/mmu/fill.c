/*
 * Faults of the target: what is missing is mapped, with the pages around it
 * that continue it. And where the wedge's own accesses go.
 */

#include "core/crash.h"
#include "core/port.h"
#include "devices/devices.h"
#include "cache.h"

/* Pages around a missing one that are looked at to be mapped with it, a power of 2. */
#ifndef MAP_WINDOW
#define MAP_WINDOW 16u
#endif

/* Memory that is not there reads as all ones and forgets what is written. */
static u8 absent[PAGE_SIZE];

u32 current_directory(u32 region) {
    u32 address = region << REGION_SHIFT;
    if (!paging())
        return unpaged_directory(address);
    u32 *entry = directory_pointer(address);
    return entry ? directory_entry(entry, address) : 0;
}

static bool map_writable(u32 entry, u32 directory) {
    if (!(entry & PTE_D))
        return false;
    /* What only CR0.WP = 0 allows is the kernel's: user code would go on with it, unseen. */
    return (entry & directory & PTE_W) || (!(cpu.cr0 & CR0_WP) && cpu.cpl != 3);
}

static void map_run(u32 page, u32 count, u32 entry, u32 directory) {
    u32 region = page / REGION_PAGES;
    while (runs >= port_map_limit())
        evict(region);
    bool writable = map_writable(entry, directory) && (likely(!log_kept) || log_has(entry >> 12, count));
    if (writable && !(entry & directory & PTE_W)) {
        lax = true;
        cpu.return_work = 1;
    }
    bool user = entry & directory & PTE_U;
    if (!port_map(gva(page << 12), gpa(entry & PAGE_MASK), count, writable, user)) {
        mmu_drop_all();
        if (!port_map(gva(page << 12), gpa(entry & PAGE_MASK), count, writable, user))
            crash("no room for a single mapping, at %x", page << 12);
    }
    struct region *r = need_region(region);
    u32 value = (entry & ~(u32)ENTRY_IGNORED) | (writable ? MAPPED_WRITABLE : 0);
    for (u32 i = page % REGION_PAGES, end = i + count; i < end; i++, value += PAGE_SIZE) {
        r->count += r->filled[i] == 0;
        clear_page(r, i);
        r->filled[i] = value;
        r->occupied[i / 32] |= 1u << i % 32;
    }
    r->directory = directory;
    if (!(entry & PTE_G)) {
        u32 first = page % REGION_PAGES / 32, last = (page % REGION_PAGES + count - 1) / 32;
        r->local |= (2u << last) - (1u << first);
        include(local(current, region), region);
    }
    r->runs++;
    runs++;
}

static void map_large(u32 region, u32 directory) {
    map_run(region * REGION_PAGES, REGION_PAGES, directory & (LARGE_MASK | LARGE_FLAGS), directory);
}

/*
 * The 4 KiB pages around `page` whose entries continue it: one mapping
 * serves them all. Only what the hardware could hold already, see above.
 */
static void map_small(u32 page, u32 entry, u32 directory) {
    const u32 window = MAP_WINDOW;
    const u32 *table = table_pointer(directory, page << 12);
    bool wide = pae();
    u32 base = page & ~(REGION_PAGES - 1);
    u32 first = page, last = page;
    u32 low = page & ~(window - 1), high = low + window - 1;
    u32 below = entry >> 12, above = (1u << 20) - 1 - below; /* frames: they do not go round */
    low = page - low > below ? page - below : low;
    high = high - page > above ? page + above : high;
    const u32 compared = ~(u32)ENTRY_IGNORED;
    note_table(directory, page / REGION_PAGES);
    /* What continues a page with memory may be a device. */
    u32 start = (entry & PAGE_MASK) - (page - low) * PAGE_SIZE;
    if (table && !devices_are_within(gpa(start), window * PAGE_SIZE)) {
        while (last < high && !filled_entry(last + 1) &&
               ((table_entry(table, last + 1 - base, wide) ^ (entry + (last + 1 - page) * PAGE_SIZE)) & compared) == 0)
            last++;
        while (first > low && !filled_entry(first - 1) &&
               ((table_entry(table, first - 1 - base, wide) ^ (entry - (page - first + 1) * PAGE_SIZE)) & compared) == 0)
            first--;
    }
    map_run(first, last - first + 1, entry - (page - first) * PAGE_SIZE, directory);
}

bool mmu_filled_device;

/* Whether a device's registers are among what would be mapped; a large page is not mapped at all then. */
static bool holds_device(const struct translation *translation) {
    if (is_large(translation->directory))
        return devices_are_within(gpa(translation->directory & LARGE_MASK), REGION_PAGES * PAGE_SIZE);
    return devices_are_within(gpa(translation->entry & PAGE_MASK), PAGE_SIZE);
}

/* A write to a page that the log has not yet: it alone becomes writable, among others that are not. */
static void map_logged(u32 page, const struct translation *translation) {
    u32 region = page / REGION_PAGES, directory = translation->directory;
    log_pages(translation->entry >> 12, 1);
    if (is_large(directory) && !*place(current, region))
        map_large(region, directory);
    map_run(page, 1, translation->entry & ~(u32)PTE_PS, directory);
}

void map(u32 page, const struct translation *translation, access_t access) {
    u32 region = page / REGION_PAGES;
    u32 directory = translation->directory;
    mmu_filled_device = holds_device(translation);
    if (unlikely(mmu_filled_device))
        return;
    const struct region *r = *place(current, region);
    if (r && ((r->directory ^ directory) & ~(u32)(ENTRY_IGNORED & ~PTE_PS) & ~(u32)PTE_D))
        drop_region(region);
    if (unlikely(log_kept) && (access & PF_WRITE))
        map_logged(page, translation);
    else if (is_large(directory))
        map_large(region, directory);
    else
        map_small(page, translation->entry, directory);
}

bool mmu_fill(gva_t address, access_t access) {
    struct translation translation;
    if (!mmu_walk(address, access, &translation))
        return false;
    map(address.value >> 12, &translation, access);
    return true;
}

/* The entry that translates an access; 0 with #PF raised. `*hit`: it is mapped so. */
static inline u32 translate(gva_t address, access_t access, bool *hit) {
    const struct region *r = *place(current, address.value >> REGION_SHIFT);
    u32 entry = r ? r->filled[address.value >> 12 & (REGION_PAGES - 1)] : 0;
    *hit = entry && (!(access & PF_WRITE) || (entry & MAPPED_WRITABLE)) &&
               (!(access & PF_USER) || (entry & r->directory & PTE_U));
    if (*hit)
        return entry;
    struct translation translation;
    return mmu_walk(address, access, &translation) ? translation.entry : 0;
}

bool mmu_physical(gva_t address, access_t access, gpa_t *physical) {
    bool hit;
    u32 entry = translate(address, access, &hit);
    *physical = gpa((entry & PAGE_MASK) | (address.value & ~PAGE_MASK));
    return entry;
}

void *mmu_pointer(gva_t address, access_t access) {
    bool hit;
    u32 entry = translate(address, access, &hit);
    if (!entry)
        return NULL;
    u8 *mapped = hit ? port_mapped(address) : NULL;
    if (mapped)
        return mapped;
    u8 *page = port_ram(gpa(entry & PAGE_MASK), PAGE_SIZE);
    if (!page) {
        memset(absent, 0xff, sizeof absent);
        page = absent;
    } else if (access & PF_WRITE) {
        port_ram_written(gpa(entry & PAGE_MASK), PAGE_SIZE);
    }
    return page + (address.value & ~PAGE_MASK);
}
