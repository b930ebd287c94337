/*
 * The walk: from a guest-virtual address through the guest's own page tables,
 * with the side effects the hardware has. Two-level (32-bit) paging.
 */

#include "mmu.h"

#include "core/cpu.h"
#include "core/port.h"

static u32 *entry_pointer(u32 table, u32 index) {
    return port_ram(gpa((table & PAGE_MASK) + index * 4u), 4);
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

bool mmu_walk(gva_t address, access_t access, struct translation *result) {
    u32 error = access & (PF_WRITE | PF_USER);
    if (!(cpu.cr0 & CR0_PG)) {
        result->directory = PTE_P | PTE_W | PTE_U | PTE_A | PTE_D;
        result->entry = (address.value & PAGE_MASK) | result->directory;
        return true;
    }
    u32 *pde = entry_pointer(cpu.cr3, address.value >> 22);
    if (!pde || !(*pde & PTE_P))
        return raise_page_fault(address.value, error);
    u32 set = PTE_A | (access & PF_WRITE ? PTE_D : 0);
    if ((*pde & PTE_PS) && (cpu.cr4 & CR4_PSE)) {
        if (!permitted(*pde, access))
            return raise_page_fault(address.value, error | PF_PRESENT);
        if ((*pde & set) != set)
            *pde |= set;
        result->directory = *pde;
        result->entry = (*pde & 0xffc00000) | (address.value & 0x003ff000) | (*pde & 0x1ff);
        return true;
    }
    u32 *pte = entry_pointer(*pde, (address.value >> 12) & 1023);
    if (!pte || !(*pte & PTE_P))
        return raise_page_fault(address.value, error);
    /* U and W are the conjunction of both levels. */
    u32 rights = *pte & (*pde | ~(u32)(PTE_U | PTE_W));
    if (!permitted(rights, access))
        return raise_page_fault(address.value, error | PF_PRESENT);
    if (!(*pde & PTE_A))
        *pde |= PTE_A;
    if ((*pte & set) != set)
        *pte |= set;
    result->directory = *pde;
    result->entry = *pte & ~(u32)PTE_PS; /* bit 7 of a PTE is PAT, which selects memory types only */
    return true;
}
