/*
 * Memory: guest RAM is one memfd, mapped whole above 4 GiB for the wedge, and
 * page by page at the guest's own addresses for the guest.
 */

#include <linux/fcntl.h>
#include <linux/fs.h>
#include <linux/memfd.h>

#include "core/crash.h"
#include "core/emulate.h"
#include "core/port.h"
#include "hosted.h"
#include "mmu/mmu.h"
#include "run/state.h"

/* Where the wedge sees all of RAM. */
#define RAM_BASE 0x200000000000ul

/* A host allows 65,530 mappings (vm.max_map_count); some are the process's own. */
#define MAP_LIMIT 60000

/* Bytes behind RAM in its file for the guest's state, which some hundred thousand sites fit into: only what is written takes memory. */
#define STATE_ROOM 0x1000000u

/* Behind the end of RAM nothing answers: all ones, and writes are lost. */
#define ABSENT_SIZE 0x400000u

int ram_fd, absent_fd;
u32 map_floor = 0x1000;
static u64 ram_size;

static int memory_file(const char *name, u64 size) {
    long fd = HOST_CALL(__NR_memfd_create, name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (host_failed(fd))
        host_fail("cannot create a memory file for guest RAM", fd);
    long result = HOST_CALL(__NR_ftruncate, fd, size);
    if (host_failed(result))
        host_fail("cannot size guest RAM", result);
    /* Code in the guest can write to it by its descriptor: not beyond its end. */
    result = HOST_CALL(__NR_fcntl, fd, F_ADD_SEALS, F_SEAL_GROW);
    if (host_failed(result))
        host_fail("cannot fix the size of guest RAM", result);
    return fd;
}

static void map_shared(u64 address, u64 size, int fd, int protection) {
    long result = host_mmap(address, size, protection, MAP_SHARED | MAP_FIXED, fd, 0);
    if (host_failed(result))
        host_fail("cannot map guest RAM", result);
}

/* A page with one address for C and one for 32-bit code. */
static void map_twice(u64 high, u64 low, int low_protection) {
    int fd = memory_file("previrt-control", PAGE_SIZE);
    map_shared(high, PAGE_SIZE, fd, PROT_READ | PROT_WRITE);
    map_shared(low, PAGE_SIZE, fd, low_protection);
}

void memory_start(u64 size) {
    ram_size = size;
    ram_fd = memory_file("previrt-ram", size + STATE_ROOM);
    map_shared(RAM_BASE, size, ram_fd, PROT_READ | PROT_WRITE);

    map_twice((uptr)&control, CONTROL_PAGE, PROT_READ | PROT_WRITE);
    map_twice((uptr)low_code, LOW_CODE, PROT_READ | PROT_EXEC);

    absent_fd = memory_file("previrt-absent", ABSENT_SIZE);

    /* The lowest address the host allows is only found by trying. */
    static const u32 floors[] = {0, 0x1000, 0x10000, 0x100000};
    for (unsigned i = 0; i < ARRAY_SIZE(floors); i++) {
        map_floor = floors[i];
        long result = host_mmap(map_floor, PAGE_SIZE, PROT_READ, MAP_SHARED | MAP_FIXED, ram_fd, 0);
        if (!host_failed(result))
            break;
    }
    host_munmap(map_floor, PAGE_SIZE);
}

/* From file to file: the pages are never zeroed, nor missed one by one, as they would be by reads into RAM's mapping. */
void memory_load(u64 address, u64 file_offset, u64 length) {
    if (!port_ram(gpa(address), length))
        host_fail("the guest's image does not fit into its memory", 0);
    long to = address - file_offset;
    int fd = boot.ram_comes == RAM_APART ? RAM_FD : BOOT_FD;
    for (u64 end = file_offset + length; file_offset < end;) {
        /* Holes of a sparse file are zero, and so is RAM here. */
        long data = HOST_CALL(__NR_lseek, fd, file_offset, SEEK_DATA);
        if (data == -6 /* ENXIO: no more data */ || data >= (long)end)
            return;
        long hole = HOST_CALL(__NR_lseek, fd, data, SEEK_HOLE);
        if (data < 0 || hole < 0)
            host_fail("cannot find what there is to read of the guest's memory", data < 0 ? data : hole);
        if (hole > (long)end)
            hole = end;
        HOST_CALL(__NR_lseek, ram_fd, to + data, SEEK_SET);
        while (data < hole) {
            long got = HOST_CALL(__NR_sendfile, ram_fd, fd, &data, hole - data);
            if (got <= 0)
                host_fail("cannot read the guest's memory", got);
        }
        file_offset = data;
    }
}

void *port_ram(gpa_t address, u64 size) {
    if (address.value >= ram_size || size > ram_size - address.value)
        return NULL;
    return (void *)(RAM_BASE + address.value);
}

u64 port_ram_size(void) { return ram_size; }

/* Behind RAM in its file, which the launcher opens as this process's. */
static void show(const struct state_piece *pieces, u32 count) {
    u64 offset = ram_size;
    for (u32 i = 0; i < count; offset += pieces[i++].size)
        if (host_pwrite(ram_fd, pieces[i].at, pieces[i].size, offset) != (long)pieces[i].size)
            host_fail("cannot write the guest's state", 0);
}

bool port_can_show(void) { return true; }

void port_show_state(const struct state_piece *pieces, u32 count) {
    show(pieces, count);
    report("previrt: stopped, memory file %u", (u32)ram_fd);
}

void port_show_log(const struct state_piece *piece) {
    show(piece, 1);
    report("previrt: logged, memory file %u", (u32)ram_fd);
}

/* A guest that comes is written to RAM's file, by the launcher, before its state is in the boot file. */
void memory_await(void) {
    u8 go_on[2];
    state_features(true);
    report("previrt: awaits a guest, memory file %u", (u32)ram_fd);
    for (u32 got = 0; got < sizeof go_on; got++)
        if (host_read(0, go_on + got, 1) != 1)
            host_exit(STATUS_HOST);
}

/* Only the log is told: otherwise nothing tells what guest code writes. */
void port_ram_written(gpa_t address, u32 size) { log_written(address, size); }

bool port_page_written(u32 page, u32 then) {
    (void)page;
    (void)then;
    return true;
}

bool port_page_watch(u32 page, u32 now) {
    (void)page;
    (void)now;
    return false;
}

void port_page_unmapped(u32 page) { (void)page; }

/* RAM is in one piece already. */
void *port_mapped(gva_t address) {
    (void)address;
    return NULL;
}

u32 port_map_limit(void) { return MAP_LIMIT; }

static bool map_absent(u32 address, u64 size, int protection) {
    static bool prepared;
    if (!prepared) {
        long at = host_mmap(0, ABSENT_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, absent_fd, 0);
        if (host_failed(at))
            host_fail("cannot map memory that is not there", at);
        memset((void *)at, 0xff, ABSENT_SIZE);
        host_munmap(at, ABSENT_SIZE);
        prepared = true;
    }
    return !host_failed(host_mmap(address, size, protection, MAP_PRIVATE | MAP_FIXED, absent_fd, 0));
}

static bool overlaps_wedge(u64 start, u64 end) { return start < HOSTED_END && end > WEDGE_BASE; }

bool port_map(gva_t address, gpa_t physical, u32 pages, bool writable, bool user) {
    (void)user; /* one process: the guest's user code sees what its kernel sees */
    u64 start = address.value, end = start + (u64)pages * PAGE_SIZE, from = physical.value;
    if (overlaps_wedge(start, end))
        crash("the guest maps %x, which it was told to leave free (reservetop=)", address.value);
    if (start < map_floor) {
        /* Accesses down there keep trapping and are emulated one by one. */
        from += map_floor - start;
        start = map_floor;
        if (start >= end)
            return true;
    }
    u64 present = from >= ram_size ? 0 : ram_size - from;
    if (present > end - start)
        present = end - start;
    int protection = PROT_READ | PROT_EXEC | (writable ? PROT_WRITE : 0);
    if (present) {
        if (host_failed(host_mmap(start, present, protection, MAP_SHARED | MAP_FIXED, ram_fd, from)))
            return false;
    }
    return start + present == end || map_absent(start + present, end - start - present, protection);
}

static bool unmap(u64 start, u64 end) { return start >= end || !host_failed(host_munmap(start, end - start)); }

bool port_unmap(gva_t address, u32 pages) {
    u64 start = address.value, end = start + (u64)pages * PAGE_SIZE;
    if (!overlaps_wedge(start, end))
        return unmap(start, end);
    return unmap(start, WEDGE_BASE) && unmap(HOSTED_END, end);
}

void port_unmap_all(void) {
    unmap(0, WEDGE_BASE);
    unmap(HOSTED_END, 1ul << 32);
}

/* One process, one address space. */
u32 port_spaces(void) { return 1; }

void port_space_enter(u32 space) { (void)space; }

void port_space_forget(u32 space) { (void)space; }
