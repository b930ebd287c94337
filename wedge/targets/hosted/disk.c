/* The disk: a file that the launcher opened, read and written in place. */

#include "core/port.h"
#include "hosted.h"

#define SECTOR 512u

u64 port_disk_sectors(void) { return boot.has_disk ? boot.disk_size / SECTOR : 0; }

int port_disk_read(u64 sector, void *to, u32 size) {
    u8 *at = to;
    u64 offset = sector * SECTOR;
    while (size) {
        long got = host_pread(DISK_FD, at, size, offset);
        if (got < 0)
            return got;
        if (got == 0)
            return -5; /* EIO: the file is shorter than it was */
        at += got;
        offset += got;
        size -= got;
    }
    return 0;
}

int port_disk_write(u64 sector, const void *from, u32 size) {
    const u8 *at = from;
    u64 offset = sector * SECTOR;
    while (size) {
        long put = host_pwrite(DISK_FD, at, size, offset);
        if (put < 0)
            return put;
        at += put;
        offset += put;
        size -= put;
    }
    return 0;
}

int port_disk_flush(void) { return HOST_CALL(__NR_fdatasync, DISK_FD); }
