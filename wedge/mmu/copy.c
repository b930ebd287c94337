/*
 * Copies between the wedge and guest-virtual memory, across pages.
 */

#include "core/port.h"
#include "entries.h"

/* Words of stack frames and descriptors are most of what is copied. */
static void move(u8 *to, const u8 *from, u32 size) {
    switch (size) {
    case 2: *(u16 *)to = *(const u16 *)from; break;
    case 4: *(u32 *)to = *(const u32 *)from; break;
    case 8: *(u64 *)to = *(const u64 *)from; break;
    default: memcpy(to, from, size);
    }
}

static bool copy(gva_t address, u8 *buffer, u32 size, access_t access) {
    while (size) {
        u32 chunk = PAGE_SIZE - (address.value & ~PAGE_MASK);
        if (chunk > size)
            chunk = size;
        u8 *page = mmu_pointer(address, access);
        if (!page)
            return false;
        if (access & PF_WRITE)
            move(page, buffer, chunk);
        else
            move(buffer, page, chunk);
        address.value += chunk;
        buffer += chunk;
        size -= chunk;
    }
    return true;
}

bool guest_read(gva_t address, void *to, u32 size, access_t access) {
    return copy(address, to, size, access & ~(access_t)PF_WRITE);
}

bool guest_write(gva_t address, const void *from, u32 size, access_t access) {
    return copy(address, (u8 *)from, size, access | PF_WRITE);
}

bool guest_patch(gva_t address, const void *from, u32 size) {
    const u8 *bytes = from;
    while (size) {
        struct translation at;
        u32 offset = address.value & ~PAGE_MASK, chunk = size < PAGE_SIZE - offset ? size : PAGE_SIZE - offset;
        if (!mmu_walk(address, 0, &at))
            return false;
        gpa_t physical = gpa((at.entry & PAGE_MASK) + offset);
        void *to = port_ram(physical, chunk);
        if (!to)
            return false;
        memcpy(to, bytes, chunk);
        port_ram_written(physical, chunk);
        address.value += chunk;
        bytes += chunk;
        size -= chunk;
    }
    return true;
}
