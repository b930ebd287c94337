/*
 * The hosted target: guest code natively in 32-bit segments of this 64-bit
 * process, the wedge around it.
 *
 *   main.c      takes the prepared machine from the launcher and starts it
 *   entry.S     burned sites call here; switch.S brings them to C and back
 *   signals.c   traps, page faults, the timer, as the host tells of them
 *   segments.c  real segment registers, memory.c mappings, clock.c time,
 *   console.c   and disk.c what the devices are connected to
 *   seccomp.c   what the process may still do once the guest runs
 */

#include <linux/prctl.h>

#include "core/emulate.h"
#include "core/port.h"
#include "devices/devices.h"
#include "run/counts.h"
#include "run/state.h"
#include "hosted.h"

struct boot_header boot;

static void print_number(long value) {
    char digits[24], *at = digits + sizeof digits - 1;
    bool negative = value < 0;
    u64 rest = negative ? -value : value;
    *at = 0;
    do
        *--at = '0' + rest % 10;
    while (rest /= 10);
    if (negative)
        *--at = '-';
    port_message(at);
}

void host_fail(const char *what, long result) {
    port_message("previrt: ");
    port_message(what);
    if (result < 0) {
        port_message(" (host error ");
        print_number(-result);
        port_message(")");
    }
    port_message("\n");
    host_exit(STATUS_HOST);
}

static void read_exactly(void *to, u64 size, u64 offset) {
    if (host_pread(BOOT_FD, to, size, offset) != (long)size)
        host_fail("the boot file is truncated", 0);
}

static void *allocate(u64 size) {
    long at = host_mmap(0, size ? size : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (host_failed(at))
        host_fail("cannot allocate memory", at);
    return (void *)at;
}

static struct patch_entry *load_sites(u32 count) {
    u64 size = count * sizeof(struct patch_entry);
    struct patch_entry *sites = allocate(size);
    if (size)
        read_exactly(sites, size, boot.sites_offset);
    return sites;
}

static void load_guest(void) {
    for (u32 i = 0; i < boot.chunk_count; i++) {
        struct boot_chunk chunk;
        read_exactly(&chunk, sizeof chunk, boot.chunks_offset + i * sizeof chunk);
        memory_load(chunk.address, chunk.offset, chunk.length);
    }
}

extern const u8 entry_code[], entry_code_end[];
void wedge_enter_switch(void);
extern u8 stack_top[];

static void map_low(u64 address, const void *from, usize size) {
    usize whole = (size + PAGE_SIZE - 1) & ~(usize)(PAGE_SIZE - 1);
    long at = host_mmap(address, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (host_failed(at))
        host_fail("cannot map the entry code", at);
    memcpy((void *)address, from, size);
    long result = HOST_CALL(__NR_mprotect, address, whole, PROT_READ | PROT_EXEC);
    if (host_failed(result))
        host_fail("cannot protect the entry code", result);
}

static void start_entries(void) {
    static u32 pointers[ENTRY_COUNT];
    for (u32 i = 0; i < ENTRY_COUNT; i++)
        pointers[i] = ENTRY_BASE + i * ENTRY_SIZE;
    map_low(POINTER_PAGE, pointers, sizeof pointers);
    map_low(ENTRY_BASE, entry_code, entry_code_end - entry_code);
    port_tables_changed();
    control.wedge_stack = (uptr)stack_top;
    control.wedge_enter = (uptr)wedge_enter_switch;
}

__attribute__((noreturn)) void hosted_main(u64 *stack) {
    /* Without the launcher nobody would read its console, move or end it. */
    HOST_CALL(__NR_prctl, PR_SET_PDEATHSIG, SIGKILL);
    /* Whoever started the launcher may have left it more, and so us. */
    HOST_CALL(__NR_close_range, RAM_FD + 1, ~0u, 0);
    signals_start();
    u64 *auxiliary = stack + stack[0] + 2; /* behind the arguments */
    while (*auxiliary++) /* and the environment */
        ;
    read_exactly(&boot, sizeof boot, 0);
    if (boot.magic != BOOT_MAGIC || boot.version != BOOT_VERSION)
        host_fail("the boot file is of another version of previrt", 0);
    memory_start(boot.ram_size);
    if (boot.ram_comes == RAM_AWAITED) {
        memory_await();
        read_exactly(&boot, sizeof boot, 0);
    }
    load_guest();
    start_entries();
    console_start(boot.panic_pattern, boot.escape, boot.commands);
    clock_start(auxiliary);

    counts_start(boot.counts);
    if (boot.state_offset) {
        static struct machine_state state;
        read_exactly(&state, sizeof state, boot.state_offset);
        state_resume(&state, load_sites(boot.site_count), boot.domains);
    } else {
        start_guest(&boot, load_sites(boot.site_count));
    }
    seccomp_start();
    segments_apply(true);
    wedge_leave();
}
