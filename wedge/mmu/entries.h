/*
 * The entries of the guest's page tables: of 4 bytes in two levels, or of 8 in
 * three with CR4.PAE (SDM vol. 3A, 4.3 and 4.4). Either is looked at as a word
 * of 32 bits: the low one has all but the upper part of the address, and no
 * memory lies above 4 GiB.
 *
 * A directory entry is looked at by regions, 2 MiB each. In PAE it covers one;
 * otherwise two, as if it were two entries with half a table, or half a page, each.
 */
#ifndef PREVIRT_ENTRIES_H
#define PREVIRT_ENTRIES_H

#include "core/cpu.h"
#include "core/port.h"
#include "mmu.h"

#define REGION_SHIFT 21
#define REGION_PAGES 512u
#define LARGE_MASK (~((1u << REGION_SHIFT) - 1)) /* the address in a directory entry with PTE_PS */
#define LARGE_FLAGS 0x1ffu                       /* what such an entry has in common with those of 4 KiB */

/* Frames beyond 4 GiB are all the same: nothing is there, nor is at this one. */
#define ABSENT_FRAME LARGE_MASK

/* Bits that are to be 0. There is no execute-disable bit, and MAXPHYADDR is 36, as without CPUID leaf 80000008. */
#define RESERVED_HIGH 0xfffffff0u
#define RESERVED_LARGE 0x001fe000u
#define RESERVED_LARGE_TWO_LEVEL 0x003fe000u

static inline bool pae(void) { return cpu.cr4 & CR4_PAE; }

/* An entry of 8 bytes as one of 4. Not present if reserved bits are set. */
static inline u32 narrow(const u32 *entry) {
    u32 low = entry[0], high = entry[1];
    if (likely(!high))
        return low;
    return high & RESERVED_HIGH ? 0 : (low & ~PAGE_MASK) | ABSENT_FRAME;
}

/* Without paging every region is a page of its own that everybody may use. */
static inline u32 unpaged_directory(u32 address) {
    return (address & LARGE_MASK) | PTE_PS | PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
}

/* The low word of the directory entry for an address, NULL if none is there. */
static inline u32 *directory_pointer(u32 address) {
    if (!pae())
        return port_ram(gpa((cpu.cr3 & PAGE_MASK) + (address >> 22) * 4), 4);
    u64 top = cpu.pdpte[address >> 30];
    if (!(top & PTE_P))
        return NULL;
    return port_ram(gpa((top & ~(u64)(PAGE_SIZE - 1)) + (address >> REGION_SHIFT & 511) * 8), 8);
}

/* The page of RAM that it lies in, by its number. */
static inline u32 directory_page(u32 address) {
    return (pae() ? cpu.pdpte[address >> 30] : cpu.cr3) >> 12;
}

/* What it means for the region of the address. Not present if reserved bits are set. */
static inline u32 directory_entry(const u32 *at, u32 address) {
    if (pae()) {
        u32 entry = narrow(at);
        return (entry & PTE_PS) && (entry & RESERVED_LARGE) ? 0 : entry;
    }
    u32 entry = *at;
    if (likely(!(entry & PTE_PS)))
        return entry;
    if (!(cpu.cr4 & CR4_PSE))
        return entry & ~(u32)PTE_PS;
    return entry & RESERVED_LARGE_TWO_LEVEL ? 0 : entry | (address & 1u << REGION_SHIFT);
}

/* The low word of a region's first table entry, 512 entries from there on; NULL if they are not in memory. */
static inline u32 *table_pointer(u32 directory, u32 address) {
    if (pae())
        return port_ram(gpa(directory & PAGE_MASK), REGION_PAGES * 8);
    return port_ram(gpa((directory & PAGE_MASK) + (address >> REGION_SHIFT & 1) * (REGION_PAGES * 4)), REGION_PAGES * 4);
}

/* One of them; whether they are `wide` is for the caller to find out once for many. */
static inline u32 table_entry(const u32 *table, u32 index, bool wide) {
    return wide ? narrow(table + 2 * index) : table[index];
}

#endif
