/*
 * The windows through which the wedge sees RAM on Xen, with a page table that
 * only remembers. Each call's pages have to be shown where it says, and those of
 * earlier calls for as long as port.h promises. The argument is a seed.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "targets/xen/xen.h"

#undef HYPERCALL
#define HYPERCALL(name, ...) fake_##name(__VA_ARGS__)

#define HOLE_PAGES 1024u
static u32 shown[HOLE_PAGES]; /* machine frames below Xen's hole, the last one first */

static long fake_update_va_mapping(u64 at, u64 low, u64 high, u64 flags) {
    (void)high;
    (void)flags;
    shown[(XEN_HOLE - at) / PAGE_SIZE] = low >> 12;
    return 0;
}
static long fake_mmu_update(const void *update, ...) { return (long)update; }
static long fake_mmuext_op(const void *operations, ...) { return (long)operations; }

#include "targets/xen/memory.c"

enum { RAM_PAGES = 65536, FIRST_FRAME = 1000000, KEPT = 60 };

static struct call {
    u64 address, size;
    const u8 *at;
} singles[KEPT], crossing[2];

static void fail(const struct call *call, const char *what) {
    printf("%s: %llx, %llu bytes at %p\n", what, call->address, call->size, call->at);
    exit(1);
}

static void check(const struct call *call) {
    if (!call->size)
        return;
    if (((u64)(uptr)call->at ^ call->address) & ~PAGE_MASK)
        fail(call, "another offset");
    u32 pages = ((call->address & ~PAGE_MASK) + call->size + PAGE_SIZE - 1) / PAGE_SIZE;
    for (u32 i = 0; i < pages; i++) {
        u32 place = (XEN_HOLE - ((u32)(uptr)call->at & PAGE_MASK)) / PAGE_SIZE - i;
        if (place >= HOLE_PAGES || shown[place] != FIRST_FRAME + call->address / PAGE_SIZE + i)
            fail(call, "not shown");
    }
}

static void ask(u64 address, u64 size) {
    static u32 next;
    struct call call = {address, size, port_ram(gpa(address), size)};
    if (!call.at)
        fail(&call, "refused");
    if ((address & ~PAGE_MASK) + size <= PAGE_SIZE) {
        singles[next++ % KEPT] = call;
    } else {
        singles[next++ % KEPT].size = 0;
        crossing[0] = crossing[1];
        crossing[1] = call;
    }
    for (u32 i = 0; i < KEPT; i++)
        check(&singles[i]);
    check(&crossing[0]);
    check(&crossing[1]);
}

/* As virtio-blk does for a request of one descriptor, of as much as Linux makes one. */
static void ask_for_request(u64 address, u64 size) {
    ask(0x100000, 16);
    for (u64 offset = 0; offset < size; offset += 0x10000)
        ask(address + offset, 0x10000);
    ask(0x101ffe, 2052);
}

int main(int count, char **arguments) {
    static u32 frames[RAM_PAGES];
    for (u32 i = 0; i < RAM_PAGES; i++)
        frames[i] = FIRST_FRAME + i;
    ram = frames;
    ram_pages = RAM_PAGES;
    srand(count > 1 ? atoi(arguments[1]) : 1);
    for (u32 i = 0; i < 64; i++)
        ask_for_request(0x1000000 + i * 0x81000 + i % 3 * 0x800, 0x140000);
    for (u32 i = 0; i < 200000; i++) {
        u64 size = rand() % 4 ? 1 + rand() % 16 : 1 + rand() % 0x10000;
        u32 page = rand() % 2 ? rand() % 100 : rand() % (RAM_PAGES - 16);
        ask(page * (u64)PAGE_SIZE + rand() % PAGE_SIZE, size);
    }
    u64 end = RAM_PAGES * (u64)PAGE_SIZE;
    if (port_ram(gpa(end - 1), 2) || port_ram(gpa(end), 1) || port_ram(gpa(1ull << 32), 1) || !port_ram(gpa(end - 1), 1))
        printf("the end of RAM is not where it should be\n");
    else
        printf("ok\n");
    return 0;
}

/* --- What the rest of memory.c asks for --- */

start_info_t *start_info;
shared_info_t shared_info;
