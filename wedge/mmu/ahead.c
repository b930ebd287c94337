/*
 * Mapping ahead: what the guest is about to touch is mapped before it is
 * missed, if A and D allow it. A fault of the target costs many times as much.
 */

#include "cache.h"

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

/* Where the guest's tables lie of which pages have been mapped, by their page: to find an entry's page from its address. */
static struct {
    u32 directory, region, cr3; /* cr3: of the space; from COMMON on all have it */
} tables[256];

void note_table(u32 directory, u32 region) {
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
        note_told(entry);
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

/* --- Other address spaces --- */

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

void remember_dropped(u32 page) {
    if (leaving && leaving->count < WARM_PAGES)
        leaving->pages[leaving->count++] = page;
}

void leave_warm(u32 cr3) {
    leaving = find_warm(cr3);
    if (!leaving)
        leaving = &warm_spaces[warm_next++ % WARM_SPACES];
    leaving->cr3 = cr3;
    leaving->count = 0;
}

void enter_warm(u32 cr3) {
    struct warm_space *space = find_warm(cr3);
    leaving = NULL;
    for (u32 i = 0; space && i < space->count; i++)
        map_ahead(gva(space->pages[i] << 12));
}
