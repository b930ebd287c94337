/*
 * The Xen target: the wedge is a paravirtualized kernel of Xen's in ring 1,
 * the guest's kernel runs under it in ring 2 and the guest's user code in ring 3.
 *
 *   main.c      takes the prepared machine out of its own image and starts it
 *   memory.c    the domain's pages: guest RAM, and windows through which C sees it
 *   shadow.c    the page tables that Xen uses, as the MMU fills them
 *   segments.c  the descriptor table that Xen uses
 *   entry.S     burned sites call here; switch.S brings them and Xen's traps to C and back
 *   traps.c     traps and events, as Xen tells of them
 *   clock.c     time and the timer; console.c what the UART is connected to
 *   disk.c      what virtio-blk is connected to, found through store.c
 */

#include "core/emulate.h"
#include "core/port.h"
#include "devices/devices.h"
#include "run/counts.h"
#include "store.h"
#include "run/state.h"
#include "xen.h"

start_info_t *start_info;

static void print_number(u32 value, u32 base) {
    char digits[12], *at = digits + sizeof digits - 1;
    *at = 0;
    do
        *--at = "0123456789abcdef"[value % base];
    while (value /= base);
    port_message(at);
}

void xen_fail(const char *what) {
    port_message("previrt: ");
    port_message(what);
    port_message("\n");
    port_end(STATUS_HOST);
}

void xen_refused(const char *name, long result, u32 a, u32 b) {
    port_message("previrt: Xen refuses ");
    port_message(name);
    port_message(" with error ");
    print_number(-result, 10);
    port_message("; arguments ");
    print_number(a, 16);
    port_message(", ");
    print_number(b, 16);
    port_message("; for the guest at ");
    print_number(cpu.eip, 16);
    port_message("\n");
    port_end(STATUS_HOST);
}

/* The prepared machine ends where the wedge begins; the last word tells where it starts. */
static struct boot_header *boot_image(void) {
    struct boot_header *boot = *(struct boot_header **)(WEDGE_BASE - 4);
    if (boot->magic != BOOT_MAGIC || boot->version != BOOT_VERSION)
        xen_fail("the image is of another version of previrt");
    return boot;
}

static struct patch_entry *keep_sites(const struct boot_header *boot) {
    return memory_keep((const u8 *)boot + boot->sites_offset, boot->site_count * sizeof(struct patch_entry));
}

__attribute__((noreturn)) void xen_main(start_info_t *info) {
    static struct boot_header boot;
    start_info = info;
    boot = *boot_image();
    memory_start();
    xen_console_start();
    traps_start();
    clock_start();
    if (!is_initial()) {
        store_start();
        disk_start();
    }
    memory_show_pages(boot_image());
    struct patch_entry *sites = boot.ram_comes == RAM_AWAITED ? NULL : keep_sites(boot_image());
    static struct machine_state state;
    if (boot.state_offset)
        memcpy(&state, (const u8 *)boot_image() + boot.state_offset, sizeof state);
    memory_load(boot_image());
    shadow_start();

    segments_start();
    port_tables_changed();
    counts_start(boot.counts);
    console_start(boot.panic_pattern, false, boot.commands);
    if (boot.ram_comes == RAM_AWAITED) {
        const struct machine_state *arrived = memory_await(boot.site_count);
        state_resume(arrived, (struct patch_entry *)(arrived + 1), boot.domains);
    } else if (boot.state_offset)
        state_resume(&state, sites, boot.domains);
    else
        start_guest(&boot, sites);
    segments_apply(true);
    wedge_leave();
}
