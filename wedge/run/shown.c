/*
 * What needs all sites waits until the guest's page tables show its kernel. One
 * that keeps tables of their own for user code (page-table isolation) has
 * little but its entry code in those; it leaves them at the next tick.
 */

#include "burn.h"
#include "core/cpu.h"
#include "mmu/mmu.h"
#include "run.h"

static u32 shown, hidden, last_page;

static void look_at(struct patch_entry *site) {
    u8 byte;
    u32 page = site->address & PAGE_MASK;
    if (page == last_page)
        return;
    last_page = page;
    if (guest_read(gva(site->address), &byte, 1, 0))
        shown++;
    else
        hidden++;
}

bool kernel_shown(void) {
    shown = hidden = last_page = 0;
    sites_each(look_at);
    return shown >= hidden; /* what has been freed may be hidden in any */
}

static void (*waiting[4])(void);
u32 kernel_awaited;
static u32 looked_at; /* CR3 */

void when_kernel_shown(void (*act)(void)) {
    if (kernel_shown()) {
        act();
        return;
    }
    looked_at = cpu.cr3;
    for (u32 i = 0; i < kernel_awaited; i++)
        if (waiting[i] == act)
            return;
    waiting[kernel_awaited++] = act;
}

void kernel_look(void) {
    u32 count = kernel_awaited;
    if (cpu.cr3 == looked_at)
        return;
    looked_at = cpu.cr3;
    if (!kernel_shown())
        return;
    kernel_awaited = 0;
    for (u32 i = 0; i < count; i++)
        waiting[i]();
}
