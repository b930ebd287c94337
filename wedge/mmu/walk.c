/*
 * The walk: from a guest-virtual address through the guest's own page tables,
 * with the side effects the hardware has.
 */

#include "mmu.h"

#include "core/cpu.h"
#include "core/port.h"
#include "entries.h"

/* Accessed and dirty, in an entry that lies in a page of RAM, by its number. */
static void set_flags(u32 *entry, u32 flags, u32 page) {
    *entry |= flags;
    if (unlikely(log_kept))
        log_pages(page, 1);
}

/*
 * Rights (SDM vol. 3A, 4.6): user accesses need U in both entries and W in
 * both to write; supervisor writes need W in both only under CR0.WP.
 */
static bool permitted(u32 rights, access_t access) {
    if ((access & PF_USER) && !(rights & PTE_U))
        return false;
    if ((access & PF_WRITE) && !(rights & PTE_W))
        return !(access & PF_USER) && !(cpu.cr0 & CR0_WP);
    return true;
}

/* The entry of 4 KiB that a large page's piece at an address would have. */
static u32 at_page(u32 directory, u32 address) {
    return (directory & (LARGE_MASK | LARGE_FLAGS)) | (address & ~LARGE_MASK & PAGE_MASK);
}

bool mmu_walk(gva_t address, access_t access, struct translation *result) {
    u32 at = address.value, error = access & (PF_WRITE | PF_USER);
    if (!(cpu.cr0 & CR0_PG)) {
        result->directory = unpaged_directory(at);
        result->entry = at_page(result->directory, at);
        return true;
    }
    u32 *directory = directory_pointer(at);
    if (!directory || !(*directory & PTE_P))
        return raise_page_fault(at, error);
    u32 pde = directory_entry(directory, at);
    if (!(pde & PTE_P))
        return raise_page_fault(at, error | PF_PRESENT | PF_RESERVED);
    u32 set = PTE_A | (access & PF_WRITE ? PTE_D : 0);
    if (pde & PTE_PS) {
        if (!permitted(pde, access))
            return raise_page_fault(at, error | PF_PRESENT);
        if ((pde & set) != set)
            set_flags(directory, set, directory_page(at));
        result->directory = pde | set;
        result->entry = at_page(result->directory, at);
        return true;
    }
    u32 *table = table_pointer(pde, at), index = at >> 12 & (REGION_PAGES - 1);
    u32 *entry = table ? table + (pae() ? index * 2 : index) : NULL;
    if (!entry || !(*entry & PTE_P))
        return raise_page_fault(at, error);
    u32 pte = table_entry(table, index, pae());
    if (!(pte & PTE_P))
        return raise_page_fault(at, error | PF_PRESENT | PF_RESERVED);
    /* U and W are the conjunction of both levels. */
    u32 rights = pte & (pde | ~(u32)(PTE_U | PTE_W));
    if (!permitted(rights, access))
        return raise_page_fault(at, error | PF_PRESENT);
    if (!(pde & PTE_A))
        set_flags(directory, PTE_A, directory_page(at));
    if ((pte & set) != set)
        set_flags(entry, set, pde >> 12);
    result->directory = pde | PTE_A;
    result->entry = (pte | set) & ~(u32)PTE_PS; /* bit 7 of a PTE is PAT, which selects memory types only */
    return true;
}

/*
 * Bits of a page-directory-pointer entry that are to be 0 (SDM vol. 3A, table
 * 4-8), but for bit 5: QEMU sets it, as accessed, in tables that may then come here.
 */
#define RESERVED_POINTER ((u64)RESERVED_HIGH << 32 | 0x1c6)

bool mmu_load_pointers(u32 cr3) {
    u64 loaded[ARRAY_SIZE(cpu.pdpte)] = {0};
    const u64 *table = port_ram(gpa(cr3 & ~31u), sizeof loaded);
    if (table)
        memcpy(loaded, table, sizeof loaded);
    for (u32 i = 0; i < ARRAY_SIZE(loaded); i++)
        if ((loaded[i] & PTE_P) && (loaded[i] & RESERVED_POINTER))
            return raise(VECTOR_GP, 0);
    memcpy(cpu.pdpte, loaded, sizeof loaded);
    return true;
}
