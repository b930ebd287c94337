/*
 * How many entries of the guest's page tables a flush found changed of which
 * no burned site had told: what `previrt run --stats` shows of domain `pagetable`.
 */

#include "cache.h"

u32 mmu_counts_late, mmu_late;
static u32 told[16384]; /* by their hash, addresses of entries that sites have written */

static u32 told_slot(u32 entry) { return (entry >> 2) * 2654435761u >> 18; }

void note_told(gpa_t entry) { told[told_slot(entry.value)] = entry.value & ~3u; }

void count_late(u32 region, u32 directory, u32 index, bool wide) {
    /* In its lower or its upper half. */
    u32 entry = (directory & PAGE_MASK) + (wide ? index * 8 : ((region & 1) * REGION_PAGES + index) * 4);
    if (told[told_slot(entry)] != entry && (!wide || told[told_slot(entry + 4)] != entry + 4))
        mmu_late++;
}
