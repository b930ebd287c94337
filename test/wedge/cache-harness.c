/*
 * The MMU's cache with few regions, on a target that only keeps count of what
 * is mapped. Address spaces come and go, and pages of them fault.
 */

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/crash.h"
#include "core/port.h"
#include "devices/devices.h"
#include "mmu/cache.h"

enum { RAM = 64 << 20, SPACES_HELD = 16, DIRECTORIES = 24 };

struct cpu cpu;
struct machine_devices machine_devices;
struct exception exception;
static u8 *ram;

static void fail(const char *what) {
    printf("%s\n", what);
    exit(1);
}

void *port_ram(gpa_t address, u64 size) {
    return address.value < RAM && size <= RAM - address.value ? ram + address.value : NULL;
}
u64 port_ram_size(void) { return RAM; }
void port_ram_written(gpa_t address, u32 size) {}
u32 port_spaces(void) { return SPACES_HELD; }
void port_space_enter(u32 space) {}
void port_space_forget(u32 space) {}
bool port_map(gva_t address, gpa_t physical, u32 pages, bool writable, bool user) {
    if (physical.value + (u64)pages * PAGE_SIZE > 1ull << 32)
        fail("a mapping goes round at 4 GiB");
    return true;
}
bool port_unmap(gva_t address, u32 pages) { return true; }
void port_unmap_all(void) {}
void *port_mapped(gva_t address) { return NULL; }
u32 port_map_limit(void) { return ~0u; }
bool port_page_written(u32 page, u32 then) { return true; }
bool port_page_watch(u32 page, u32 now) { return false; }
void port_page_unmapped(u32 page) {}
void crash(const char *format, ...) { fail(format); }
bool raise(enum vector vector, u32 error) { return false; }
bool raise_page_fault(u32 address, u32 error) { return false; }

static u32 directory(u32 n) { return 0x100000 + n * PAGE_SIZE; }

int main(int count, char **arguments) {
    enum { TABLE = 0x2000, ROUND = 0x3000 };
    ram = aligned_alloc(PAGE_SIZE, RAM);
    u32 *table = (u32 *)(ram + TABLE), *round = (u32 *)(ram + ROUND);
    for (u32 i = 0; i < 1024; i++) {
        table[i] = (0x400000 + i * PAGE_SIZE) | 0x67;
        round[i] = (0xfff7b000 + i * PAGE_SIZE) | 0x67;
        for (u32 n = 0; n < DIRECTORIES; n++)
            ((u32 *)(ram + directory(n)))[i] = (i % 8 ? TABLE : ROUND) | 0x67;
    }
    cpu.cr0 = CR0_PG | CR0_PE | CR0_WP;
    cpu.cr3 = directory(0);
    mmu_mode_changed();
    srand(count > 1 ? atoi(arguments[1]) : 1);
    for (u32 i = 0; i < 2000; i++) {
        cpu.cr3 = directory(rand() % DIRECTORIES);
        mmu_flush(false);
        /* Some use nothing at all. */
        u32 faults = cpu.cr3 / PAGE_SIZE % 3 ? 0 : rand() % 2 ? rand() % 8 : REGION_POOL;
        for (u32 n = 0; n < faults; n++)
            if (!mmu_fill(gva((u32)rand() << 12), 0))
                fail("a fault without a reason");
    }
    printf("ok\n");
    return 0;
}
