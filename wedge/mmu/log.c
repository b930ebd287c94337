/*
 * The log: which pages of guest RAM have been written to since it was last
 * shown, so that a guest can be copied while it runs. While it is kept,
 * nothing is mapped writable that is not in it: the first write to a page faults.
 */

#include "core/port.h"
#include "mmu.h"

bool log_kept;

#define WORD_PAGES 32u
static u32 written[(1u << 20) / WORD_PAGES]; /* of 4 GiB */

static bool holds(u32 page) { return written[page / WORD_PAGES] >> page % WORD_PAGES & 1; }

void log_pages(u32 page, u32 count) {
    for (u32 end = page + count; page < end; page++)
        written[page / WORD_PAGES] |= 1u << page % WORD_PAGES;
}

void log_written(gpa_t address, u32 size) {
    if (likely(!log_kept) || !size)
        return;
    u32 page = address.value / PAGE_SIZE, last = (address.value + size - 1) / PAGE_SIZE;
    log_pages(page, last - page + 1);
}

bool log_has(u32 page, u32 count) {
    for (u32 end = page + count; page < end; page++)
        if (!holds(page))
            return false;
    return true;
}

void log_begin(void) {
    memset(written, 0, sizeof written);
    log_kept = true;
    mmu_drop_all();
}

void log_end(void) {
    if (!log_kept)
        return;
    log_kept = false;
    mmu_drop_all();
}

u32 log_size(void) { return (u32)((port_ram_size() / PAGE_SIZE + 7) / 8); }

const void *log_bytes(void) { return written; }
