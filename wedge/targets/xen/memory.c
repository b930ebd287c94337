/*
 * The domain's memory. Xen's domain builder has mapped the prepared machine,
 * the wedge and a few pages of its own one after the other (xen.h, "Start-of-day
 * memory layout"); pseudo-physical frame 0 lies at the start. The pages of the
 * prepared machine become guest RAM as they are, and the rest of RAM comes from
 * what nobody uses yet.
 *
 * There is no room to see all of RAM at once: C looks at it through windows, of
 * which the oldest is given to another page when all are in use.
 */

#include "core/crash.h"
#include "core/port.h"
#include "run/state.h"
#include "xen.h"

#define NOT_OURS (~0u) /* of a frame that has got another use */
#define PAGE_RW (PTE_P | PTE_W | PTE_A | PTE_D)
#define PAGE_RO (PTE_P | PTE_A)

static u32 image;      /* guest-virtual start of the domain's initial mapping */
static u32 *machines;  /* machine page frames by pseudo-physical frame (start_info.mfn_list) */
static u32 next_frame; /* unused from here on */
static u32 next_own;   /* address of the first page behind all that the wedge uses */

static u32 *ram; /* machine page frames of guest RAM */
static u32 ram_pages;

#define SINGLES 256u   /* windows for pages one by one */
#define RUNS 2u        /* for pages that follow each other */
#define RUN_PAGES 17u  /* of each: 64 KiB, wherever they start */
#define WINDOWS (SINGLES + RUNS * RUN_PAGES)

static u8 *window(u32 slot) { return (u8 *)(XEN_HOLE - (WINDOWS - slot) * PAGE_SIZE); }

static u32 frame_of(const void *at) { return ((u32)at - image) / PAGE_SIZE; }

mfn_t memory_own_page(const void *at) { return (mfn_t){machines[frame_of(at)]}; }

static void map_page(u32 at, mfn_t machine, u32 flags) {
    u64 entry = (u64)machine.value << 12 | flags;
    long result = HYPERCALL(update_va_mapping, at, entry, entry >> 32, UVMF_INVLPG);
    if (result)
        xen_refused("update_va_mapping", result, at, entry);
}

void memory_map_own(const void *at, mfn_t machine, bool writable) {
    map_page((u32)at, machine, writable ? PAGE_RW : PAGE_RO);
}

static mfn_t take_frame(void) {
    if (next_frame >= start_info->nr_pages)
        xen_fail("the domain has too little memory for this guest: give it more");
    return (mfn_t){machines[next_frame++]};
}

/* Clears pages by hypercall, so that they need not be mapped. */
static void clear(const mfn_t *pages, u32 count) {
    static mmuext_op_t operations[64];
    for (u32 i = 0; i < count; i++) {
        operations[i].cmd = MMUEXT_CLEAR_PAGE;
        operations[i].arg1.mfn = pages[i].value;
    }
    long result = HYPERCALL(mmuext_op, operations, count, 0, DOMID_SELF);
    if (result)
        xen_refused("mmuext_op CLEAR_PAGE", result, pages[0].value, count);
}

void memory_clear(mfn_t page) { clear(&page, 1); }

mfn_t memory_take_page(void) {
    mfn_t page = take_frame();
    memory_clear(page);
    return page;
}

/* As memory_grow; the machine frames go into a list too, if there is one. */
static void *grow(u32 pages, u32 *frames) {
    u32 start = next_own;
    if (next_own + pages * PAGE_SIZE > (u32)window(0))
        xen_fail("the guest's memory is too large for the wedge's tables");
    for (; pages--; next_own += PAGE_SIZE) {
        mfn_t page = memory_take_page();
        map_page(next_own, page, PAGE_RW);
        if (frames)
            *frames++ = page.value;
    }
    return (void *)start;
}

void *memory_grow(u32 pages) { return grow(pages, NULL); }

/* Machine address of the builder's directory for the last GiB. */
static u64 last_directory(void) { return ((const u64 *)start_info->pt_base)[3] & ~(u64)~PAGE_MASK; }

const u64 *memory_builder_directory(void) {
    for (u32 i = 0; i < start_info->nr_pt_frames; i++) {
        const void *page = (const void *)(start_info->pt_base + i * PAGE_SIZE);
        if ((u64)memory_own_page(page).value << 12 == last_directory())
            return page;
    }
    xen_fail("Xen's page tables for the wedge are not where they should be");
}

#define TABLE_SPAN 0x200000u

/*
 * Whatever the builder has mapped behind what it needed, up to its next
 * boundary, would be writable mappings of free pages. Where its tables end, ours follow.
 */
static void clear_to_hole(void) {
    const u64 *directory = memory_builder_directory();
    for (u32 at = next_own; at < XEN_HOLE;) {
        u32 slot = at / TABLE_SPAN % (PAGE_SIZE / 8);
        if (directory[slot] & PTE_P) {
            map_page(at, (mfn_t){0}, 0);
            at += PAGE_SIZE;
            continue;
        }
        mmu_update_t add = {.ptr = (last_directory() + slot * 8) | MMU_NORMAL_PT_UPDATE,
                            .val = (u64)memory_take_page().value << 12 | PAGE_RW | PTE_U};
        long result = HYPERCALL(mmu_update, &add, 1, NULL, DOMID_SELF);
        if (result)
            xen_refused("mmu_update", result, at, add.val);
        at += TABLE_SPAN;
    }
}

void memory_start(void) {
    image = *(u32 *)(WEDGE_BASE - 4);
    machines = (u32 *)start_info->mfn_list;
    /* Behind the page tables comes one page more, the stack that we started on. */
    next_own = start_info->pt_base + (start_info->nr_pt_frames + 1) * PAGE_SIZE;
    next_frame = (next_own - image) / PAGE_SIZE;
    clear_to_hole();
    map_page((u32)&shared_info, (mfn_t){start_info->shared_info >> 12}, PAGE_RW);
}

void *memory_keep(const void *at, u32 size) {
    u32 from = (u32)at & PAGE_MASK;
    u32 pages = ((u32)at + size - from + PAGE_SIZE - 1) / PAGE_SIZE;
    u32 start = next_own;
    for (u32 i = 0; i < pages; i++, next_own += PAGE_SIZE)
        map_page(next_own, memory_own_page((void *)(from + i * PAGE_SIZE)), PAGE_RW);
    return (void *)(start + ((u32)at - from));
}

/* --- Guest RAM --- */

bool memory_machine_page(u32 page, mfn_t *machine) {
    if (page >= ram_pages)
        return false;
    machine->value = ram[page];
    return true;
}

static void load_chunk(const struct boot_header *boot, const struct boot_chunk *chunk) {
    u32 first = chunk->address / PAGE_SIZE, frame = frame_of(boot) + chunk->offset / PAGE_SIZE;
    for (u32 i = 0; i < chunk->length / PAGE_SIZE; i++)
        ram[first + i] = machines[frame + i];
}

void memory_load(const struct boot_header *boot) {
    const struct boot_chunk *chunks = (const void *)((const u8 *)boot + boot->chunks_offset);
    ram_pages = boot->ram_size / PAGE_SIZE;
    written_start(ram_pages);
    ram = memory_grow((ram_pages * sizeof ram[0] + PAGE_SIZE - 1) / PAGE_SIZE);
    for (u32 i = 0; i < boot->chunk_count; i++)
        load_chunk(boot, &chunks[i]);
    mfn_t batch[64];
    u32 count = 0;
    for (u32 page = 0; page < ram_pages; page++) {
        if (ram[page])
            continue;
        batch[count] = take_frame();
        ram[page] = batch[count++].value;
        if (count < ARRAY_SIZE(batch))
            continue;
        clear(batch, count);
        count = 0;
    }
    if (count)
        clear(batch, count);
}

u64 port_ram_size(void) { return (u64)ram_pages * PAGE_SIZE; }

/* --- What is told to the outside --- */

static struct boot_header *head; /* the domain's first page, where whoever reads its memory begins */

static u32 pages_of(u64 size) { return (size + PAGE_SIZE - 1) / PAGE_SIZE; }

/*
 * Where Xen's tools look for the list of the domain's pages (arch_shared_info): a
 * page names the page that names those of the list, of 4 GiB at most.
 */
void memory_show_pages(struct boot_header *boot) {
    head = memory_keep(boot, sizeof *boot);
    u32 list_frame, root_frame, count = pages_of((u64)start_info->nr_pages * sizeof machines[0]);
    if (count > PAGE_SIZE / sizeof list_frame)
        return;
    u32 *list = grow(1, &list_frame), *root = grow(1, &root_frame);
    for (u32 i = 0; i < count; i++)
        list[i] = memory_own_page((u8 *)machines + i * PAGE_SIZE).value;
    root[0] = list_frame;
    shared_info.arch.max_pfn = start_info->nr_pages;
    shared_info.arch.pfn_to_mfn_frame_list_list = root_frame;
}

/* The most that the pieces can come to; they are copied, so that they follow each other. */
static u32 told_pages(void) {
    const struct patch_entry *entries;
    u32 unused, count = sites_of_kernel(&entries, &unused) + MODULE_SITES;
    return pages_of(sizeof(struct machine_state) + (u64)count * sizeof *entries + log_size());
}

/*
 * Pages to be read or written from outside: by a page with the machine frames
 * of a list, which has those of the pages and, behind them, of all of RAM.
 */
struct open_pages {
    u32 count;
    u8 *at;
    u32 root_frame;
};

static void open_pages(struct open_pages *pages, u32 count) {
    u32 *root = grow(1, &pages->root_frame);
    u32 *list = grow(pages_of((u64)(count + ram_pages) * sizeof list[0]), root);
    pages->count = count;
    pages->at = grow(count, list);
    memcpy(list + count, ram, ram_pages * sizeof list[0]);
}

static struct open_pages told;

bool port_can_show(void) {
    u32 count = told_pages(), list = pages_of((u64)(count + ram_pages) * sizeof ram[0]);
    return told.count || next_own + (1 + list + count) * PAGE_SIZE <= (u32)window(0);
}

static void show(const struct state_piece *pieces, u32 count) {
    if (!told.count)
        open_pages(&told, told_pages());
    u8 *to = told.at;
    for (u32 i = 0; i < count; to += pieces[i++].size)
        memcpy(to, pieces[i].at, pieces[i].size);
}

void port_show_state(const struct state_piece *pieces, u32 count) {
    show(pieces, count);
    head->told_pages = told.count;
    head->told_frame = told.root_frame;
    report("previrt: stopped, machine frame %u, %u pages of state", told.root_frame, told.count);
}

void port_show_log(const struct state_piece *piece) {
    show(piece, 1);
    report("previrt: logged, machine frame %u, %u pages of state", told.root_frame, told.count);
}

const struct machine_state *memory_await(u32 most_sites) {
    struct open_pages arrived;
    u8 go_on[2];
    open_pages(&arrived, pages_of(sizeof(struct machine_state) + (u64)most_sites * sizeof(struct patch_entry)));
    state_features(true);
    ((struct machine_state *)arrived.at)->wall_time = port_wall_time(); /* by which the other side knows this clock */
    report("previrt: awaits a guest, machine frame %u, %u pages of state", arrived.root_frame, arrived.count);
    for (u32 got = 0; got < sizeof go_on;) {
        port_wait_input();
        got += port_receive(go_on + got, 1) == 1;
    }
    return (const struct machine_state *)arrived.at;
}

void port_hide_state(void) { head->told_frame = 0; }

/* --- Windows --- */

#define BUCKETS 16384u
#define LIFETIME 64u /* calls for which a page that was asked for stays */

static u32 window_page[SINGLES]; /* guest-physical page + 1 */
static u32 window_used[SINGLES]; /* by which call last */
static u32 calls = LIFETIME;
static u16 bucket[BUCKETS];      /* where a page was seen last, by its number */
static u32 window_next;

/* Fewer than LIFETIME are in use, so there is one that is not. */
static u32 open_window(u32 page) {
    do
        window_next = (window_next + 1) % SINGLES;
    while (calls - window_used[window_next] < LIFETIME);
    map_page((u32)window(window_next), (mfn_t){ram[page]}, PAGE_RW);
    window_page[window_next] = page + 1;
    bucket[page % BUCKETS] = window_next;
    return window_next;
}

/* The last two that were asked for stay: those of a request for much data would soon fill all windows. */
static u8 *open_run(u32 page, u32 count) {
    static struct {
        u32 page, count;
    } runs[RUNS];
    static u32 last;
    if (runs[last].page != page || runs[last].count < count)
        last = (last + 1) % RUNS;
    u32 slot = SINGLES + last * RUN_PAGES;
    if (runs[last].page != page || runs[last].count < count) {
        for (u32 i = 0; i < count; i++)
            map_page((u32)window(slot + i), (mfn_t){ram[page + i]}, PAGE_RW);
        runs[last].page = page;
        runs[last].count = count;
    }
    return window(slot);
}

void *port_ram(gpa_t address, u64 size) {
    u32 page = address.value >> 12, offset = address.value & ~PAGE_MASK;
    u32 slot = bucket[page % BUCKETS];
    bool single = size <= PAGE_SIZE - offset;
    calls++;
    /* Within a page that was seen lately, as most are. */
    if (!(address.value >> 32) && single && window_page[slot] == page + 1) {
        window_used[slot] = calls;
        return window(slot) + offset;
    }
    u64 end = (u64)ram_pages * PAGE_SIZE;
    if (address.value >= end || size > end - address.value)
        return NULL;
    if (single) {
        slot = open_window(page);
        window_used[slot] = calls;
        return window(slot) + offset;
    }
    u32 count = (offset + size + PAGE_SIZE - 1) / PAGE_SIZE;
    return count <= RUN_PAGES ? open_run(page, count) + offset : NULL;
}
