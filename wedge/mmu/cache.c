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

#include "mmu.h"

#include "core/cpu.h"
#include "core/crash.h"
#include "core/port.h"
#include "devices/devices.h"
#include "entries.h"

#define REGIONS (1u << (32 - REGION_SHIFT))
#define COMMON (COMMON_BASE >> REGION_SHIFT) /* the first region that is the same in all spaces */

/* Bits 9-11 of an entry are the guest's own and never compared; bit 9 says that the mapping is writable. */
#define MAPPED_WRITABLE (1u << 9)
#define ENTRY_IGNORED 0xe98u /* AVL, PAT/PS, PCD, PWT */

/* A region of which some page is mapped. */
struct region {
    u32 filled[REGION_PAGES]; /* the guest's entry when the page was mapped; 0: not mapped */
    u32 occupied[REGION_PAGES / 32];
    u32 directory; /* the page-directory entry that all were filled under */
    u32 compared;  /* when all of this was last compared with the guest's tables, 0: never */
    u32 directory_page; /* where the directory entry was then, by page number */
    u16 count;     /* pages filled */
    u16 runs;      /* mappings made */
    u16 local;     /* words of `occupied` whose pages are not all global */
};

/* Pages around a missing one that are looked at to be mapped with it, a power of 2. */
#ifndef MAP_WINDOW
#define MAP_WINDOW 16u
#endif

#ifndef REGION_POOL
#define REGION_POOL REGIONS
#endif

/* A set of regions, and which words of it are not 0, so that few are looked at. */
struct region_set {
    u32 words[REGIONS / 32];
    u32 used[REGIONS / 32 / 32];
};

#define QUIET_PAGES 32u

struct space {
    u32 cr3;
    u32 quiet[QUIET_PAGES]; /* pages of the guest's tables: while nobody writes to them, all is as it was */
    u32 quiet_count;        /* 0: it is not known which they are */
    u32 quiet_since;
    u32 entered; /* when it became current last */
    struct region *regions[COMMON];
    struct region_set occupied; /* regions of which some page is mapped */
    struct region_set local;    /* those of them whose pages are not all global */
};

#define SPACES 16u
#define NO_CR3 1u /* not aligned */

static struct space spaces[SPACES] = {[0 ... SPACES - 1] = {.cr3 = NO_CR3}};
static struct space *current = &spaces[0];
static u32 flushes; /* so far, from 1 on: a clock for `entered` and `compared` */

static struct region *common_regions[REGIONS - COMMON];
static struct region_set common_occupied, common_local;

static struct region pool[REGION_POOL];
static struct region *unused[REGION_POOL];
static u32 unused_count, handed_out;

static u32 runs; /* mappings in all */
static u32 evict_next;

/* Set while a page that only supervisor code may write (CR0.WP clear) is mapped writable. */
static bool lax;

/* Memory that is not there reads as all ones and forgets what is written. */
static u8 absent[PAGE_SIZE];

static bool paging(void) { return cpu.cr0 & CR0_PG; }

static bool is_large(u32 directory) { return directory & PTE_PS; }

/* --- Regions --- */

static struct region **place(struct space *space, u32 region) {
    return region < COMMON ? &space->regions[region] : &common_regions[region - COMMON];
}

static struct region_set *occupied(struct space *space, u32 region) {
    return region < COMMON ? &space->occupied : &common_occupied;
}

static struct region_set *local(struct space *space, u32 region) {
    return region < COMMON ? &space->local : &common_local;
}

static void include(struct region_set *set, u32 region) {
    set->words[region / 32] |= 1u << region % 32;
    set->used[region / 1024] |= 1u << region / 32 % 32;
}

static void exclude(struct region_set *set, u32 region) {
    u32 *word = &set->words[region / 32];
    *word &= ~(1u << region % 32);
    if (!*word)
        set->used[region / 1024] &= ~(1u << region / 32 % 32);
}

/* Each region of a set; it may leave the set meanwhile. */
#define FOR_REGIONS(region, set)                                                       \
    for (u32 half_ = 0; half_ < ARRAY_SIZE((set)->used); half_++)                       \
        for (u32 used_ = (set)->used[half_]; used_; used_ &= used_ - 1)                 \
            for (u32 word_ = half_ * 32 + __builtin_ctz(used_), bits_ = (set)->words[word_], region; \
                 bits_ && (region = word_ * 32 + __builtin_ctz(bits_), true); bits_ &= bits_ - 1)

static void clear_page(struct region *r, u32 index) {
    if (r->filled[index] & MAPPED_WRITABLE)
        port_page_unmapped(r->filled[index] >> 12);
    r->filled[index] = 0;
}

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

static void drop_all(void) {
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

static void drop_region(u32 region) {
    if (!*place(current, region))
        return;
    if (port_unmap(gva(region << REGION_SHIFT), REGION_PAGES))
        forget_region(current, region);
    else
        drop_all();
}

static void drop_space(struct space *space) {
    port_space_forget(space - spaces);
    forget_space(space);
    space->quiet_count = 0;
    space->cr3 = NO_CR3;
}

/* Among those that the target can hold, one that is free or has not been current for longest; not the current one. */
static struct space *oldest_space(void) {
    struct space *oldest = NULL;
    for (u32 i = 0; i < port_spaces() && i < SPACES; i++) {
        struct space *space = &spaces[i];
        if (space == current)
            continue;
        if (space->cr3 == NO_CR3)
            return space;
        if (!oldest || space->entered < oldest->entered)
            oldest = space;
    }
    return oldest;
}

/* Makes room for one more mapping, or one more region: what is not current goes first, then region by region. */
static void evict(u32 keep) {
    struct space *space = oldest_space();
    if (space && space->cr3 != NO_CR3) {
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

static struct region *need_region(u32 region) {
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

/* The entry that a page is mapped from, or 0. */
static u32 filled_entry(u32 page) {
    struct region *r = *place(current, page / REGION_PAGES);
    return r ? r->filled[page % REGION_PAGES] : 0;
}

/* Unmaps pages of one region; holes among them are allowed. */
static void drop_pages(u32 page, u32 count) {
    u32 region = page / REGION_PAGES;
    struct region *r = *place(current, region);
    if (!port_unmap(gva(page << 12), count)) {
        drop_all();
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

/* --- Mapping --- */

static u32 current_directory(u32 region) {
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
        drop_all();
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

/* Where the guest's tables lie of which pages have been mapped, by their page: to find an entry's page from its address. */
static struct {
    u32 directory, region, cr3; /* cr3: of the space; from COMMON on all have it */
} tables[256];

static void note_table(u32 directory, u32 region) {
    u32 slot = (directory >> 12) % ARRAY_SIZE(tables);
    tables[slot].directory = directory & PAGE_MASK;
    tables[slot].region = pae() ? region : region & ~1u;
    tables[slot].cr3 = current->cr3;
}

/* The page that an entry maps in the current space, if that is known; else 0. */
static u32 page_of_entry(u32 entry) {
    u32 slot = (entry >> 12) % ARRAY_SIZE(tables), region = tables[slot].region;
    if (tables[slot].directory != (entry & PAGE_MASK) || (region < COMMON && tables[slot].cr3 != current->cr3))
        return 0;
    return region * REGION_PAGES + (entry & ~PAGE_MASK) / (pae() ? 8 : 4);
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

static void map(u32 page, const struct translation *translation, access_t access) {
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

static void map_ahead(gva_t address) {
    u32 page = address.value >> 12;
    if (!paging() || filled_entry(page))
        return;
    u32 directory = current_directory(page / REGION_PAGES);
    if (!(directory & PTE_P) || !(directory & PTE_A) || is_large(directory))
        return;
    const u32 *table = table_pointer(directory, address.value);
    u32 entry = table ? table_entry(table, page % REGION_PAGES, pae()) : 0;
    if ((entry & (PTE_P | PTE_A)) != (PTE_P | PTE_A))
        return;
    struct translation translation = {.entry = entry & ~(u32)PTE_PS, .directory = directory};
    map(page, &translation, 0);
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

/* --- What the guest announces --- */

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

/*
 * Where a target holds one space only: address spaces that were current
 * lately, and which of their pages had to go when another took their place.
 * Those are mapped again, one call each, before they are missed one trap
 * each. A set in the entry allows it.
 */
#define WARM_SPACES 16u
#define WARM_PAGES 96u

struct warm_space {
    u32 cr3;
    u32 count;
    u32 pages[WARM_PAGES];
};

static struct warm_space warm_spaces[WARM_SPACES];
static struct warm_space *leaving; /* while its pages are being dropped */
static u32 warm_next;

static struct warm_space *find_warm(u32 cr3) {
    for (u32 i = 0; i < WARM_SPACES; i++)
        if (warm_spaces[i].cr3 == cr3)
            return &warm_spaces[i];
    return NULL;
}

static void remember_dropped(u32 page) {
    if (leaving && leaving->count < WARM_PAGES)
        leaving->pages[leaving->count++] = page;
}

static void leave_warm(u32 cr3) {
    leaving = find_warm(cr3);
    if (!leaving)
        leaving = &warm_spaces[warm_next++ % WARM_SPACES];
    leaving->cr3 = cr3;
    leaving->count = 0;
}

static void enter_warm(u32 cr3) {
    struct warm_space *space = find_warm(cr3);
    leaving = NULL;
    for (u32 i = 0; space && i < space->count; i++)
        map_ahead(gva(space->pages[i] << 12));
}

u32 mmu_counts_late, mmu_late;
static u32 told[16384]; /* by their hash, addresses of entries that sites have written */

static u32 told_slot(u32 entry) { return (entry >> 2) * 2654435761u >> 18; }

/* An entry of a region has changed: whether a site told of it, in its lower or its upper half. */
static void count_late(u32 region, u32 directory, u32 index, bool wide) {
    u32 entry = (directory & PAGE_MASK) + (wide ? index * 8 : ((region & 1) * REGION_PAGES + index) * 4);
    if (told[told_slot(entry)] != entry && (!wide || told[told_slot(entry + 4)] != entry + 4))
        mmu_late++;
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
            } else if (entry) { /* none after drop_all */
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
        return; /* after drop_all */
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

/* What tells address spaces apart: CR3 without its flags. In PAE it need not be the start of a page. */
static u32 current_cr3(void) { return cpu.cr3 & (pae() ? ~31u : PAGE_MASK); }

/* Makes the space of CR3 the current one. True if another was before. */
static bool enter_space(u32 cr3) {
    if (current->cr3 == cr3)
        return false;
    struct space *next = NULL;
    for (u32 i = 0; i < SPACES && !next; i++)
        if (spaces[i].cr3 == cr3)
            next = &spaces[i];
    if (!next) {
        next = oldest_space();
        if (!next) {
            current->cr3 = cr3; /* the only one there is */
            return true;
        }
        if (next->cr3 != NO_CR3)
            drop_space(next);
        next->cr3 = cr3;
    }
    current = next;
    current->entered = flushes;
    port_space_enter(current - spaces);
    return true;
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

void mmu_mode_changed(void) {
    drop_all();
    current->cr3 = current_cr3();
}

void mmu_drop_all(void) { drop_all(); }

void mmu_enter_user(void) {
    if (unlikely(lax))
        drop_all();
}

void port_devices_moved(void) { mmu_mode_changed(); }


/* --- Copies --- */

/* Words of stack frames and descriptors are most of what is copied. */
static void move(u8 *to, const u8 *from, u32 size) {
    switch (size) {
    case 2: *(u16 *)to = *(const u16 *)from; break;
    case 4: *(u32 *)to = *(const u32 *)from; break;
    case 8: *(u64 *)to = *(const u64 *)from; break;
    default: memcpy(to, from, size);
    }
}

static bool copy(gva_t address, u8 *buffer, u32 size, access_t access) {
    while (size) {
        u32 chunk = PAGE_SIZE - (address.value & ~PAGE_MASK);
        if (chunk > size)
            chunk = size;
        u8 *page = mmu_pointer(address, access);
        if (!page)
            return false;
        if (access & PF_WRITE)
            move(page, buffer, chunk);
        else
            move(buffer, page, chunk);
        address.value += chunk;
        buffer += chunk;
        size -= chunk;
    }
    return true;
}

bool guest_read(gva_t address, void *to, u32 size, access_t access) {
    return copy(address, to, size, access & ~(access_t)PF_WRITE);
}

bool guest_write(gva_t address, const void *from, u32 size, access_t access) {
    return copy(address, (u8 *)from, size, access | PF_WRITE);
}

bool guest_patch(gva_t address, const void *from, u32 size) {
    const u8 *bytes = from;
    while (size) {
        struct translation at;
        u32 offset = address.value & ~PAGE_MASK, chunk = size < PAGE_SIZE - offset ? size : PAGE_SIZE - offset;
        if (!mmu_walk(address, 0, &at))
            return false;
        gpa_t physical = gpa((at.entry & PAGE_MASK) + offset);
        void *to = port_ram(physical, chunk);
        if (!to)
            return false;
        memcpy(to, bytes, chunk);
        port_ram_written(physical, chunk);
        address.value += chunk;
        bytes += chunk;
        size -= chunk;
    }
    return true;
}

/* --- Page faults of the guest's own, and what it writes to its tables --- */

/*
 * Between a page fault that the guest is told of and its handler's iret the
 * page usually becomes present: then it is mapped before the access is repeated.
 */
static gva_t faulted;
static bool fault_open;

/*
 * So do others that the handler maps on the way. They wait until its end: what
 * is contiguous is one mapping then.
 */
static u32 ahead[64], ahead_count;

void mmu_entry_written(gpa_t entry) {
    if (unlikely(mmu_counts_late))
        told[told_slot(entry.value)] = entry.value & ~3u;
    if (!fault_open || ahead_count == ARRAY_SIZE(ahead))
        return;
    u32 page = page_of_entry(entry.value);
    if (page)
        ahead[ahead_count++] = page;
}

void mmu_page_fault_begins(gva_t address) {
    faulted = address;
    fault_open = true;
    ahead_count = 0;
    cpu.return_work = 1;
}

void mmu_page_fault_over(void) {
    if (!fault_open)
        return;
    fault_open = false;
    cpu.return_work = lax;
    map_ahead(faulted);
    for (u32 i = 0; i < ahead_count; i++)
        map_ahead(gva(ahead[i] << 12));
}
