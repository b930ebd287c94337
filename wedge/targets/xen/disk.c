/* The initial domain has no disk: there is nobody who would serve it. */

#include "core/port.h"

#define EIO 5

u64 port_disk_sectors(void) { return 0; }

int port_disk_read(u64 sector, void *to, u32 size) {
    (void)sector;
    (void)to;
    (void)size;
    return -EIO;
}

int port_disk_write(u64 sector, const void *from, u32 size) {
    (void)sector;
    (void)from;
    (void)size;
    return -EIO;
}

int port_disk_flush(void) { return 0; }
