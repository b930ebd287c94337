/*
 * The MMU: the hypervisor's mappings as a cache of the guest's page tables,
 * filled on faults and emptied where the guest flushes, like a TLB.
 */
#ifndef PREVIRT_MMU_H
#define PREVIRT_MMU_H

#include "core/types.h"

/* An access, as the bits of a page fault's error code: PF_WRITE, PF_USER. */
typedef u32 access_t;

/* Page-table entries (SDM vol. 3A, 4.3 and 4.4). */
enum {
    PTE_P = 1u << 0,
    PTE_W = 1u << 1,
    PTE_U = 1u << 2,
    PTE_A = 1u << 5,
    PTE_D = 1u << 6,
    PTE_PS = 1u << 7,
    PTE_G = 1u << 8,
};

/* One translation: the entry that maps `address`, with A (and D) as the walk has left them. */
struct translation {
    u32 entry;     /* a 4 KiB entry; for a large page the one its 4 KiB piece would have, with PTE_PS */
    u32 directory; /* the page-directory entry above it, or of the large page itself, as entries.h has it */
};

/*
 * Walks the guest's page tables as the hardware would: checks the rights, sets
 * accessed and dirty bits. False with #PF raised.
 */
bool mmu_walk(gva_t address, access_t access, struct translation *result);

/*
 * Loads the four entries above the directories that the processor holds while
 * it uses PAE (SDM vol. 3A, 4.4.1). False with #GP raised, and none loaded, if
 * one of them has reserved bits.
 */
bool mmu_load_pointers(u32 cr3);

/* Makes an access possible that faulted in the host. False with #PF raised. */
bool mmu_fill(gva_t address, access_t access);
/* A fault is delivered to the guest; its handler returns: maps the page it made present, if A and D allow. */
void mmu_page_fault_begins(gva_t address);
void mmu_page_fault_over(void);
/* After a successful mmu_fill: a device is there, so nothing is mapped, and the access is to be emulated. */
extern bool mmu_filled_device;
/* Where an access goes on the memory bus. False with #PF raised. */
bool mmu_physical(gva_t address, access_t access, gpa_t *physical);
/* A burned site has written to an entry of the guest's page tables. */
void mmu_entry_written(gpa_t entry);
/*
 * Entries that a flush found changed and that no burned site has told of; counted if asked
 * for, and only where the same table was looked at before.
 */
extern u32 mmu_counts_late, mmu_late;
/* Host pointer to a guest-virtual byte for the wedge's own accesses; NULL with #PF raised. */
void *mmu_pointer(gva_t address, access_t access);

/* Before user code runs: what only CR0.WP = 0 made writable must not stay so. */
void mmu_enter_user(void);

/* What the guest announces. */
void mmu_invalidate_page(gva_t address);
void mmu_flush(bool global); /* a write of CR3; with `global` also global entries */
void mmu_mode_changed(void); /* CR0.PG, CR0.WP, CR4.PSE, CR4.PAE */

/* Copies between wedge and guest-virtual memory, across pages. False with #PF raised. */
bool guest_read(gva_t address, void *to, u32 size, access_t access);
bool guest_write(gva_t address, const void *from, u32 size, access_t access);
/* Changes what can be read there, whether or not it can be written to: text. */
bool guest_patch(gva_t address, const void *from, u32 size);

/* Removes all mappings: everything faults once more. */
void mmu_drop_all(void);

/* --- log.c: the pages of RAM that have been written to --- */

/* Whether they are noted; log_has and log_pages mean something only then. */
extern bool log_kept;
void log_pages(u32 page, u32 count);
/* Those that C has written to (port_ram_written), if the log is kept. */
void log_written(gpa_t address, u32 size);
bool log_has(u32 page, u32 count);
/* With none noted; and again, once they have been shown. */
void log_begin(void);
void log_end(void);
/* A bit for each page of RAM, rounded up to bytes: as log_bytes has them, from the lowest bit of the first byte on. */
u32 log_size(void);
const void *log_bytes(void);

/* --- What a target provides for the MMU --- */

/*
 * How many address spaces can be held at once, at least 1; number 0 is current
 * at the start. Mappings below COMMON_BASE are made in the current one, those
 * from there on are in all of them.
 */
#define COMMON_BASE 0xc0000000u
u32 port_spaces(void);
void port_space_enter(u32 space);
/* Removes the mappings below COMMON_BASE of a space that is not current. */
void port_space_forget(u32 space);

/* Maps `pages` contiguous pages; replaces what is there. False if there is no room for one more mapping. */
bool port_map(gva_t address, gpa_t physical, u32 pages, bool writable, bool user);
/* Removes whatever is mapped in the range. False if that would split a mapping and there is no room for two. */
bool port_unmap(gva_t address, u32 pages);
/* Removes all mappings of guest pages, in all spaces. */
void port_unmap_all(void);
/* Where C may access what is mapped at an address in the current space; NULL: by port_ram. */
void *port_mapped(gva_t address);
/* How many separate mappings the target can hold. */
u32 port_map_limit(void);

/*
 * Whether a page of guest RAM, by its number, may have been written to since
 * `then`: the guest by a mapping, C as it told (port_ram_written); a target
 * that cannot tell says so always. What sets A and D in the walk does not count.
 */
bool port_page_written(u32 page, u32 then);
/* From now on that is to be known, if it can. `now` is a time as the caller counts it, rising, from 1. */
bool port_page_watch(u32 page, u32 now);
/* A mapping that port_map was told to make writable is no more. */
void port_page_unmapped(u32 page);

#endif
