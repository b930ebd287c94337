/*
 * What the parts of the MMU share: which mappings there are, by regions and address spaces.
 */
#ifndef PREVIRT_CACHE_H
#define PREVIRT_CACHE_H

#include "core/cpu.h"
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

/* A set of regions, and which words of it are not 0, so that few are looked at. */
struct region_set {
    u32 words[REGIONS / 32];
    u32 used[REGIONS / 32 / 32];
};

#define QUIET_PAGES 32u

/* An address space that the target holds. */
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

/* --- cache.c: what is mapped --- */

extern struct space *current;
extern u32 flushes; /* so far, from 1 on: a clock for `entered` and `compared` */
extern struct region *common_regions[REGIONS - COMMON];
extern struct region_set common_occupied, common_local;
extern u32 runs; /* mappings in all */
/* Set while a page that only supervisor code may write (CR0.WP clear) is mapped writable. */
extern bool lax;

struct region *need_region(u32 region);
/* Makes room for one more mapping, or one more region: what is not current goes first, then region by region. */
void evict(u32 keep);
/* Unmaps pages of one region; holes among them are allowed. */
void drop_pages(u32 page, u32 count);
void drop_region(u32 region);
/* Makes a space the current one, by what current_cr3 gave. True if another was before. */
bool enter_space(u32 cr3);

static inline bool paging(void) { return cpu.cr0 & CR0_PG; }

static inline bool is_large(u32 directory) { return directory & PTE_PS; }

static inline struct region **place(struct space *space, u32 region) {
    return region < COMMON ? &space->regions[region] : &common_regions[region - COMMON];
}

static inline struct region_set *occupied(struct space *space, u32 region) {
    return region < COMMON ? &space->occupied : &common_occupied;
}

static inline struct region_set *local(struct space *space, u32 region) {
    return region < COMMON ? &space->local : &common_local;
}

static inline void include(struct region_set *set, u32 region) {
    set->words[region / 32] |= 1u << region % 32;
    set->used[region / 1024] |= 1u << region / 32 % 32;
}

static inline void exclude(struct region_set *set, u32 region) {
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

/* What tells address spaces apart: CR3 without its flags. In PAE it need not be the start of a page. */
static inline u32 current_cr3(void) { return cpu.cr3 & (pae() ? ~31u : PAGE_MASK); }

/* The entry that a page is mapped from, or 0. */
static inline u32 filled_entry(u32 page) {
    struct region *r = *place(current, page / REGION_PAGES);
    return r ? r->filled[page % REGION_PAGES] : 0;
}

/* Forgets that a page is mapped; the mapping itself is the caller's to replace. */
static inline void clear_page(struct region *r, u32 index) {
    if (r->filled[index] & MAPPED_WRITABLE)
        port_page_unmapped(r->filled[index] >> 12);
    r->filled[index] = 0;
}

/* --- fill.c: mapping what is missing --- */

/* The directory entry of a region as the guest has it now. */
u32 current_directory(u32 region);
/* Maps a page as it was translated, with what continues it, unless a device is there (mmu_filled_device). */
void map(u32 page, const struct translation *translation, access_t access);

/* --- ahead.c: mapping what will be missed --- */

/* Where the guest's table lies that a page of a region was mapped from. */
void note_table(u32 directory, u32 region);
/* The current space gives way to another, where the target holds one only; then its pages are dropped one by one. */
void leave_warm(u32 cr3);
void remember_dropped(u32 page);
void enter_warm(u32 cr3);

/* --- late.c --- */

/* A site has told of an entry that it wrote. */
void note_told(gpa_t entry);
/* A flush has found an entry of a region changed: counted if none has told of it. */
void count_late(u32 region, u32 directory, u32 index, bool wide);

#endif
