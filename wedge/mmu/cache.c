/*
 * The cache: which host mappings exist, and from which entries they were filled.
 *
 * For each guest-virtual page `filled` holds the guest's entry at the time it
 * was mapped, 0 where nothing is mapped. Rights grow only through faults, and
 * a guest announces every reduction (invlpg, cr3), so nothing here traps
 * page-table writes: at a flush the entries are compared with what they are now,
 * and only mappings whose entry has changed go.
 *
 * A guest may skip the flush where A was clear (or D, for writing). So nothing
 * is mapped without A, nothing writable without D, and the walk alone sets them.
 */

#include "mmu.h"

#include "core/cpu.h"
#include "core/crash.h"
#include "core/port.h"

#define REGION_PAGES 1024u /* what one page-directory entry covers */
#define REGIONS 1024u

/* Bits 9-11 of an entry are the guest's own and never compared; bit 9 says that the host mapping is writable. */
#define MAPPED_WRITABLE (1u << 9)
#define ENTRY_IGNORED 0xe98u /* AVL, PAT/PS, PCD, PWT */

static u32 filled[REGIONS * REGION_PAGES];
static u32 region_directory[REGIONS]; /* the page-directory entry that the region was filled under */
static u16 region_count[REGIONS];     /* pages filled */
static u16 region_runs[REGIONS];      /* host mappings made */
static u16 region_first[REGIONS], region_last[REGIONS]; /* no page outside is filled */
static u32 occupied[REGIONS / 32];    /* bits: regions that have pages filled */
static u32 runs;                      /* their sum */
static u32 evict_next;

/* Set while a page that only supervisor code may write (CR0.WP clear) is mapped writable. */
static bool lax;

/* Memory that is not there reads as all ones and forgets what is written. */
static u8 absent[PAGE_SIZE];

static bool paging(void) { return cpu.cr0 & CR0_PG; }

static bool is_large(u32 directory) { return directory & PTE_PS; }

static void region_is_empty(u32 region) {
    runs -= region_runs[region];
    region_count[region] = 0;
    region_runs[region] = 0;
    occupied[region / 32] &= ~(1u << region % 32);
}

static void forget_region(u32 region) {
    u32 first = region_first[region], last = region_last[region];
    memset(&filled[region * REGION_PAGES + first], 0, (last - first + 1) * sizeof filled[0]);
    region_is_empty(region);
}

/* Takes note that pages are being filled, whose first and last one these are within the region. */
static void region_grows(u32 region, u32 first, u32 last) {
    if (!region_count[region]) {
        region_first[region] = first;
        region_last[region] = last;
        occupied[region / 32] |= 1u << region % 32;
    }
    if (first < region_first[region])
        region_first[region] = first;
    if (last > region_last[region])
        region_last[region] = last;
}

/* The first region from `region` on that has pages filled, or REGIONS. */
static u32 next_occupied(u32 region) {
    while (region < REGIONS) {
        u32 rest = occupied[region / 32] >> region % 32;
        if (rest)
            return region + __builtin_ctz(rest);
        region = (region | 31) + 1;
    }
    return REGIONS;
}

static void drop_all(void) {
    port_unmap_all();
    for (u32 region = next_occupied(0); region < REGIONS; region = next_occupied(region + 1))
        forget_region(region);
    lax = false;
}

static void drop_region(u32 region) {
    if (!region_count[region])
        return;
    if (port_unmap(gva(region << 22), REGION_PAGES))
        forget_region(region);
    else
        drop_all();
}

/* Unmaps pages of one region; holes among them are allowed. */
static void drop_pages(u32 page, u32 count) {
    u32 region = page / REGION_PAGES;
    if (!port_unmap(gva(page << 12), count)) {
        drop_all();
        return;
    }
    for (u32 i = 0; i < count; i++) {
        region_count[region] -= filled[page + i] != 0;
        filled[page + i] = 0;
    }
    if (!region_count[region])
        region_is_empty(region);
}

/* Makes room under the target's limit: whole regions go, in turn, but never `keep`. */
static void evict(u32 keep) {
    u32 limit = port_map_limit();
    for (u32 tried = 0; runs >= limit && tried < 2 * REGIONS; tried++) {
        u32 region = evict_next++ % REGIONS;
        if (region != keep)
            drop_region(region);
    }
    if (runs >= limit)
        drop_region(keep);
}

static u32 current_directory(u32 region) {
    if (!paging())
        return region << 22 | PTE_PS | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
    u32 *directory = port_ram(gpa((cpu.cr3 & PAGE_MASK) + region * 4), 4);
    u32 entry = directory ? *directory : 0;
    return cpu.cr4 & CR4_PSE ? entry : entry & ~(u32)PTE_PS;
}

static bool map_writable(u32 entry, u32 directory) {
    if (!(entry & PTE_D))
        return false;
    /* What only CR0.WP = 0 allows is the kernel's: user code would go on with it, unseen. */
    return (entry & directory & PTE_W) || (!(cpu.cr0 & CR0_WP) && cpu.cpl != 3);
}

static void map_run(u32 page, u32 count, u32 entry, u32 directory) {
    u32 region = page / REGION_PAGES;
    if (runs >= port_map_limit())
        evict(region);
    bool writable = map_writable(entry, directory);
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
    u32 value = (entry & ~(u32)ENTRY_IGNORED) | (writable ? MAPPED_WRITABLE : 0);
    region_grows(region, page % REGION_PAGES, page % REGION_PAGES + count - 1);
    for (u32 i = 0; i < count; i++, value += PAGE_SIZE) {
        if (!filled[page + i])
            region_count[region]++;
        filled[page + i] = value;
    }
    region_directory[region] = directory;
    region_runs[region]++;
    runs++;
}

static void map_large(u32 region, u32 directory) {
    map_run(region * REGION_PAGES, REGION_PAGES, (directory & 0xffc00000) | (directory & 0x1ff), directory);
}

/*
 * The 4 KiB pages around `page` whose entries continue it: one host mapping
 * serves them all. Only what the hardware could hold already, see above.
 */
static void map_small(u32 page, u32 entry, u32 directory) {
    const u32 window = 16;
    u32 *table = port_ram(gpa(directory & PAGE_MASK), PAGE_SIZE);
    u32 base = page & ~(REGION_PAGES - 1);
    u32 first = page, last = page;
    u32 low = page & ~(window - 1), high = low + window - 1;
    const u32 compared = ~(u32)ENTRY_IGNORED;
    if (table) {
        while (last < high && !filled[last + 1] &&
               ((table[last + 1 - base] ^ (entry + (last + 1 - page) * PAGE_SIZE)) & compared) == 0)
            last++;
        while (first > low && !filled[first - 1] &&
               ((table[first - 1 - base] ^ (entry - (page - first + 1) * PAGE_SIZE)) & compared) == 0)
            first--;
    }
    map_run(first, last - first + 1, entry - (page - first) * PAGE_SIZE, directory);
}

static void map(u32 page, const struct translation *translation) {
    u32 region = page / REGION_PAGES;
    u32 directory = paging() ? translation->directory : current_directory(region);
    if (!(cpu.cr4 & CR4_PSE) && paging())
        directory &= ~(u32)PTE_PS;
    if (region_count[region] && ((region_directory[region] ^ directory) & ~(u32)(ENTRY_IGNORED & ~PTE_PS) & ~(u32)PTE_D))
        drop_region(region);
    if (is_large(directory))
        map_large(region, directory);
    else
        map_small(page, translation->entry, directory);
}

bool mmu_fill(gva_t address, access_t access) {
    struct translation translation;
    if (!mmu_walk(address, access, &translation))
        return false;
    map(address.value >> 12, &translation);
    return true;
}

static void map_ahead(gva_t address) {
    u32 page = address.value >> 12;
    if (!paging() || filled[page])
        return;
    u32 directory = current_directory(page / REGION_PAGES);
    if (!(directory & PTE_P) || !(directory & PTE_A) || is_large(directory))
        return;
    u32 *entry = port_ram(gpa((directory & PAGE_MASK) + page % REGION_PAGES * 4), 4);
    if (!entry || (*entry & (PTE_P | PTE_A)) != (PTE_P | PTE_A))
        return;
    struct translation translation = {.entry = *entry & ~(u32)PTE_PS, .directory = directory};
    map(page, &translation);
}

void *mmu_pointer(gva_t address, access_t access) {
    u32 entry = filled[address.value >> 12];
    bool hit = entry && (!(access & PF_WRITE) || (entry & MAPPED_WRITABLE)) &&
               (!(access & PF_USER) || (entry & region_directory[address.value >> 22] & PTE_U));
    if (!hit) {
        struct translation translation;
        if (!mmu_walk(address, access, &translation))
            return NULL;
        entry = translation.entry;
    }
    u8 *page = port_ram(gpa(entry & PAGE_MASK), PAGE_SIZE);
    if (!page) {
        memset(absent, 0xff, sizeof absent);
        page = absent;
    }
    return page + (address.value & ~PAGE_MASK);
}

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
 * Address spaces that were current lately, and which of their pages had to go
 * when another took their place: those are mapped again, one host call each,
 * before they are missed one trap each. A set in the entry allows it.
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
static u32 filled_cr3;

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

static void leave_space(u32 cr3) {
    leaving = find_warm(cr3);
    if (!leaving)
        leaving = &warm_spaces[warm_next++ % WARM_SPACES];
    leaving->cr3 = cr3;
    leaving->count = 0;
}

static void enter_space(u32 cr3) {
    struct warm_space *space = find_warm(cr3);
    leaving = NULL;
    filled_cr3 = cr3;
    for (u32 i = 0; space && i < space->count; i++)
        map_ahead(gva(space->pages[i] << 12));
}

static void revalidate_region(u32 region, bool global) {
    u32 old = region_directory[region];
    u32 base = region * REGION_PAGES;
    u32 now = current_directory(region);
    if (is_large(old)) {
        if (!stays_global(old, global) && (now & PTE_PS ? !still_valid(filled[base], (now & 0xffc001ff)) : true))
            drop_region(region);
        return;
    }
    /* Another table is as good where its entries agree: address spaces have pages in common. */
    bool comparable = !((old ^ now) & (PTE_P | PTE_W | PTE_U | PTE_A | PTE_PS));
    const u32 *table = comparable ? port_ram(gpa(now & PAGE_MASK), PAGE_SIZE) : NULL;
    if (table)
        region_directory[region] = now;
    /* Runs of pages whose mappings must go, with the holes between them, are unmapped by one call. */
    u32 start = 0, length = 0;
    for (u32 i = region_first[region], last = region_last[region]; i <= last; i++) {
        u32 entry = filled[base + i];
        if (!entry)
            continue; /* also after drop_all */
        if (stays_global(entry, global) || (table && still_valid(entry, table[i]))) {
            if (length)
                drop_pages(start, length);
            length = 0;
        } else {
            remember_dropped(base + i);
            if (!length)
                start = base + i;
            length = base + i + 1 - start;
        }
    }
    if (length)
        drop_pages(start, length);
}

void mmu_flush(bool global) {
    bool switched = cpu.cr3 != filled_cr3;
    lax = false;
    if (switched)
        leave_space(filled_cr3);
    for (u32 region = next_occupied(0); region < REGIONS; region = next_occupied(region + 1))
        revalidate_region(region, global);
    if (switched)
        enter_space(cpu.cr3);
}

void mmu_invalidate_page(gva_t address) {
    u32 page = address.value >> 12, region = address.value >> 22;
    u32 old = filled[page];
    if (!old)
        return;
    u32 directory = current_directory(region);
    if (is_large(region_directory[region])) {
        if (!is_large(directory) || !still_valid(old, (directory & 0xffc001ff) + (page % REGION_PAGES << 12)))
            drop_region(region);
        return;
    }
    u32 *table = directory & PTE_P && !is_large(directory) ? port_ram(gpa(directory & PAGE_MASK), PAGE_SIZE) : NULL;
    if (!table || ((directory ^ region_directory[region]) & (PAGE_MASK | PTE_W | PTE_U)) ||
        !still_valid(old, table[page % REGION_PAGES]))
        drop_pages(page, 1);
}

void mmu_mode_changed(void) { drop_all(); }

void mmu_enter_user(void) {
    if (unlikely(lax))
        mmu_mode_changed();
}

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

/*
 * Between a page fault that the guest is told of and its handler's iret the
 * page usually becomes present: then it is mapped before the access is repeated.
 */
static gva_t faulted;
static bool fault_open;

void mmu_page_fault_begins(gva_t address) {
    faulted = address;
    fault_open = true;
    cpu.return_work = 1;
}

void mmu_page_fault_over(void) {
    if (!fault_open)
        return;
    fault_open = false;
    cpu.return_work = lax;
    map_ahead(faulted);
}
