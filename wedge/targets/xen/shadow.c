/*
 * The page tables that Xen uses: three levels, filled by the MMU from the
 * guest's own, which Xen never sees. Changes are collected and handed over
 * many at a time; a table of the last level serves 2 MiB.
 */

#include "core/crash.h"
#include "core/port.h"
#include "xen.h"

#define SLOT_PAGES 512u /* pages that one table of the last level maps */
#define SLOTS 2048u

static u64 directory_address[4];  /* machine addresses of the tables of the middle level */
static mfn_t table[SLOTS];        /* tables of the last level */
static u32 present[SLOTS * SLOT_PAGES / 32];
static u32 slot_count[SLOTS];     /* pages present */

static mmu_update_t queue[128];
static u32 queued;
static bool stale; /* something is unmapped that the TLB may still hold */

/* Tables out of use, to be cleared once Xen no longer takes them for tables. */
static mfn_t spare[SLOTS];
static u32 spare_count;

static u8 absent[PAGE_SIZE] __attribute__((aligned(4096)));

static void hand_over(void) {
    if (!queued)
        return;
    u32 done = 0;
    long result = HYPERCALL(mmu_update, queue, queued, &done, DOMID_SELF);
    if (result)
        xen_refused("mmu_update", result, queue[done].ptr, queue[done].val);
    queued = 0;
}

static void update(u64 entry, u64 value) {
    if (queued == ARRAY_SIZE(queue))
        hand_over();
    queue[queued++] = (mmu_update_t){.ptr = entry | MMU_NORMAL_PT_UPDATE, .val = value};
}

void shadow_commit(void) {
    hand_over();
    if (!stale)
        return;
    stale = false;
    mmuext_op_t flush = {.cmd = MMUEXT_TLB_FLUSH_LOCAL};
    HYPERCALL(mmuext_op, &flush, 1, 0, DOMID_SELF);
}

void shadow_start(void) {
    const u64 *top = (const u64 *)start_info->pt_base;
    u64 top_address = (u64)memory_own_page(top).value << 12;
    memset(absent, 0xff, sizeof absent);
    for (u32 i = 0; i < 3; i++) {
        directory_address[i] = (u64)memory_take_page().value << 12;
        update(top_address + i * 8, directory_address[i] | PTE_P);
    }
    directory_address[3] = top[3] & ~0xfffull;
    /* Below the wedge lies only the image's mapping, which has served. */
    u32 image = *(const u32 *)(WEDGE_BASE - 4);
    for (u32 slot = image >> 21; slot < WEDGE_BASE >> 21; slot++)
        update(directory_address[3] + slot % SLOT_PAGES * 8, 0);
    stale = true;
    shadow_commit();
}

static u64 directory_entry(u32 slot) { return directory_address[slot / SLOT_PAGES] + slot % SLOT_PAGES * 8; }

static void need_table(u32 slot) {
    if (table[slot].value)
        return;
    if (spare_count) {
        table[slot] = spare[--spare_count];
        hand_over(); /* Xen has to let go of it first */
        memory_clear(table[slot]);
    } else {
        table[slot] = memory_take_page();
    }
    update(directory_entry(slot), (u64)table[slot].value << 12 | PTE_P | PTE_W | PTE_U | PTE_A);
}

static bool is_present(u32 page) { return present[page / 32] & 1u << page % 32; }

static void set_entry(u32 page, u64 value) {
    u32 slot = page / SLOT_PAGES;
    bool was = is_present(page), is = value != 0;
    if (!was && !is)
        return;
    update(((u64)table[slot].value << 12) + page % SLOT_PAGES * 8, value);
    stale |= was;
    slot_count[slot] += is - was;
    present[page / 32] ^= (u32)(is != was) << page % 32;
}

u32 port_map_limit(void) { return ~0u; }

bool port_map(gva_t address, gpa_t physical, u32 pages, bool writable, bool user) {
    u32 page = address.value >> 12, from = physical.value >> 12;
    if (page + pages > WEDGE_BASE >> 12)
        crash("the guest maps %x, which it was told to leave free (reservetop=)", address.value);
    u64 flags = PTE_P | PTE_A | PTE_D | (user ? PTE_U : 0);
    for (; pages--; page++, from++) {
        mfn_t machine;
        bool there = memory_machine_page(from, &machine);
        if (!there)
            machine = memory_own_page(absent);
        need_table(page / SLOT_PAGES);
        set_entry(page, (u64)machine.value << 12 | flags | (writable && there ? PTE_W : 0));
    }
    return true;
}

static void drop_table(u32 slot) {
    if (!table[slot].value)
        return;
    update(directory_entry(slot), 0);
    stale = true;
    spare[spare_count++] = table[slot];
    table[slot].value = 0;
    slot_count[slot] = 0;
    memset(&present[slot * SLOT_PAGES / 32], 0, SLOT_PAGES / 8);
}

bool port_unmap(gva_t address, u32 pages) {
    u32 page = address.value >> 12, end = page + pages;
    while (page < end) {
        u32 slot = page / SLOT_PAGES;
        bool whole = page % SLOT_PAGES == 0 && end - page >= SLOT_PAGES;
        if (whole)
            drop_table(slot);
        else if (slot_count[slot] && is_present(page))
            set_entry(page, 0);
        page += whole ? SLOT_PAGES : 1;
    }
    return true;
}

void port_unmap_all(void) {
    for (u32 slot = 0; slot < SLOTS; slot++)
        drop_table(slot);
}
