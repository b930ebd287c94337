/*
 * The page tables that Xen uses: three levels, filled by the MMU from the
 * guest's own, which Xen never sees. A set for each of the guest's address
 * spaces that is kept; from COMMON_BASE on they share the tables of the last
 * level. Changes are collected and handed over many at a time.
 */

#include "core/crash.h"
#include "core/port.h"
#include "xen.h"

#define SLOT_PAGES 512u /* pages that one table of the last level maps: 2 MiB */
#define SLOTS 2048u
#define LOWER_SLOTS (COMMON_BASE >> 21)
#define SPACES 16u
#define TABLES 1400u

/* A table of the last level. Number 0 is none. */
struct table {
    mfn_t machine;
    u32 present[SLOT_PAGES / 32];
};

struct space {
    bool made;
    mfn_t top;
    u64 directories[4]; /* machine addresses of the tables of the middle level */
    u16 tables[LOWER_SLOTS];
};

static struct table tables[TABLES];
static u16 common_tables[SLOTS - LOWER_SLOTS];
static struct space spaces[SPACES];
static struct space *current = &spaces[0];

/* Tables out of use; Xen may still hold them until what is collected has been handed over. */
static u16 spare[TABLES];
static u32 spare_count, handed_out = 1;

static mmu_update_t queue[128];
static u32 queued;
static bool stale; /* something is unmapped that the TLB may still hold */

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

static void extended(u32 command, mfn_t machine) {
    mmuext_op_t operation = {.cmd = command, .arg1.mfn = machine.value};
    long result = HYPERCALL(mmuext_op, &operation, 1, 0, DOMID_SELF);
    if (result)
        xen_refused("mmuext_op", result, command, machine.value);
}

void shadow_commit(void) {
    hand_over();
    if (stale)
        extended(MMUEXT_TLB_FLUSH_LOCAL, (mfn_t){0});
    stale = false;
}

/* --- Spaces --- */

static u64 directory_entry(const struct space *space, u32 slot) {
    return space->directories[slot / SLOT_PAGES] + slot % SLOT_PAGES * 8;
}

static u64 table_entry(const struct table *table) {
    return (u64)table->machine.value << 12 | PTE_P | PTE_W | PTE_U | PTE_A;
}

void shadow_start(void) {
    const u64 *top = (const u64 *)start_info->pt_base;
    struct space *first = &spaces[0];
    memset(absent, 0xff, sizeof absent);
    first->made = true;
    first->top = memory_own_page(top);
    for (u32 i = 0; i < 3; i++) {
        first->directories[i] = (u64)memory_take_page().value << 12;
        update(((u64)first->top.value << 12) + i * 8, first->directories[i] | PTE_P);
    }
    first->directories[3] = top[3] & ~0xfffull;
    /* Below the wedge lies only the image's mapping, which has served. */
    u32 image = *(const u32 *)(WEDGE_BASE - 4);
    for (u32 slot = image >> 21; slot < WEDGE_BASE >> 21; slot++)
        update(directory_entry(first, slot), 0);
    stale = true;
    shadow_commit();
}

/* Xen adds its own part to the last directory when the set becomes one of page tables. */
static void make_space(struct space *space) {
    const u64 *builders = memory_builder_directory(); /* the wedge's own part, which every space needs too */
    space->top = memory_take_page();
    for (u32 i = 0; i < 4; i++) {
        space->directories[i] = (u64)memory_take_page().value << 12;
        update(((u64)space->top.value << 12) + i * 8, space->directories[i] | PTE_P);
    }
    for (u32 slot = LOWER_SLOTS; slot < XEN_HOLE >> 21; slot++) {
        const struct table *table = &tables[common_tables[slot - LOWER_SLOTS]];
        if (slot >= WEDGE_BASE >> 21)
            update(directory_entry(space, slot), builders[slot % SLOT_PAGES]);
        else if (table != tables)
            update(directory_entry(space, slot), table_entry(table));
    }
    hand_over();
    extended(MMUEXT_PIN_L3_TABLE, space->top);
    space->made = true;
}

u32 port_spaces(void) { return SPACES; }

void port_space_enter(u32 space) {
    current = &spaces[space];
    if (!current->made)
        make_space(current);
    hand_over();
    extended(MMUEXT_NEW_BASEPTR, current->top);
    stale = false;
}

/* --- Tables of the last level --- */

static u16 *place(struct space *space, u32 slot) {
    return slot < LOWER_SLOTS ? &space->tables[slot] : &common_tables[slot - LOWER_SLOTS];
}

/* In the directory of a space, or of all of them. */
static void set_directory(struct space *space, u32 slot, u64 value) {
    if (slot < LOWER_SLOTS) {
        update(directory_entry(space, slot), value);
        return;
    }
    for (u32 i = 0; i < SPACES; i++)
        if (spaces[i].made)
            update(directory_entry(&spaces[i], slot), value);
}

static struct table *need_table(u32 slot) {
    u16 *at = place(current, slot);
    if (*at)
        return &tables[*at];
    if (spare_count) {
        *at = spare[--spare_count];
        hand_over();
        memory_clear(tables[*at].machine);
    } else if (handed_out < TABLES) {
        *at = handed_out++;
        tables[*at].machine = memory_take_page();
    } else {
        return NULL;
    }
    set_directory(current, slot, table_entry(&tables[*at]));
    return &tables[*at];
}

static void set_entry(struct table *table, u32 page, u64 value) {
    u32 *word = &table->present[page % SLOT_PAGES / 32], bit = 1u << page % 32;
    bool was = *word & bit;
    if (!was && !value)
        return;
    update(((u64)table->machine.value << 12) + page % SLOT_PAGES * 8, value);
    stale |= was;
    *word = value ? *word | bit : *word & ~bit;
}

/* --- Xen's entries, as the hardware leaves them --- */

#define VIEWS 32u

static u64 views[VIEWS][SLOT_PAGES] __attribute__((aligned(4096)));
static u16 viewed[VIEWS]; /* which table a view shows */
static u8 view_of[TABLES];

const u64 *shadow_common_entry(u32 page) {
    static u32 next;
    u16 table = *place(current, page / SLOT_PAGES);
    if (!table)
        return NULL;
    hand_over();
    u32 view = view_of[table];
    if (viewed[view] != table) {
        view = next++ % VIEWS;
        memory_map_own(views[view], tables[table].machine, false);
        viewed[view] = table;
        view_of[table] = view;
    }
    return &views[view][page % SLOT_PAGES];
}

void shadow_change_common_entry(u32 page, u64 value) {
    const struct table *table = &tables[*place(current, page / SLOT_PAGES)];
    update(((u64)table->machine.value << 12) + page % SLOT_PAGES * 8, value);
    stale = true;
}

static void drop_table(struct space *space, u32 slot) {
    u16 *at = place(space, slot);
    if (!*at)
        return;
    set_directory(space, slot, 0);
    stale = true;
    memset(tables[*at].present, 0, sizeof tables[*at].present);
    spare[spare_count++] = *at;
    *at = 0;
}

/* --- What the MMU asks for --- */

u32 port_map_limit(void) { return ~0u; }

bool port_map(gva_t address, gpa_t physical, u32 pages, bool writable, bool user) {
    u32 page = address.value >> 12, from = physical.value >> 12;
    if (page + pages > WEDGE_BASE >> 12)
        crash("the guest maps %x, which it was told to leave free (reservetop=)", address.value);
    u64 flags = PTE_P | PTE_A | PTE_D | (user ? PTE_U : 0);
    for (; pages--; page++, from++) {
        struct table *table = need_table(page / SLOT_PAGES);
        if (!table)
            return false;
        mfn_t machine;
        bool there = memory_machine_page(from, &machine);
        if (there && writable)
            written_mapped(from, page);
        if (!there) {
            /* Reads as all ones, at least until somebody writes. */
            memset(absent, 0xff, sizeof absent);
            machine = memory_own_page(absent);
        }
        set_entry(table, page, (u64)machine.value << 12 | flags | (writable ? PTE_W : 0));
    }
    return true;
}

/* Ring 1 sees the guest's pages where the guest does, once Xen has them. */
void *port_mapped(gva_t address) { return queued || stale ? NULL : (void *)(uptr)address.value; }

bool port_unmap(gva_t address, u32 pages) {
    u32 page = address.value >> 12, end = page + pages;
    while (page < end) {
        u32 slot = page / SLOT_PAGES, rest = SLOT_PAGES - page % SLOT_PAGES;
        u16 at = *place(current, slot);
        if (rest == SLOT_PAGES && end - page >= SLOT_PAGES)
            drop_table(current, slot);
        else
            for (u32 i = 0; at && i < rest && page + i < end; i++)
                set_entry(&tables[at], page + i, 0);
        page += rest;
    }
    return true;
}

void port_space_forget(u32 space) {
    for (u32 slot = 0; slot < LOWER_SLOTS; slot++)
        drop_table(&spaces[space], slot);
}

void port_unmap_all(void) {
    for (u32 i = 0; i < SPACES; i++)
        port_space_forget(i);
    for (u32 slot = LOWER_SLOTS; slot < SLOTS; slot++)
        drop_table(current, slot);
}
