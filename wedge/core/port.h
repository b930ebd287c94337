/*
 * The port: everything the core, the MMU and the devices ask of a target.
 * A target implements these functions in wedge/targets/<target>/ and nothing
 * in core/, mmu/ or devices/ knows which one it is.
 */
#ifndef PREVIRT_PORT_H
#define PREVIRT_PORT_H

#include "types.h"

/* --- Guest-physical memory --- */

/*
 * Host pointer to guest RAM [address, address + size), or NULL if any byte of
 * it lies outside RAM, or there is more of it than the target can show at once
 * (64 KiB it can). Valid for the next 60 calls at least; what reaches across
 * pages only until after the next call for such. The guest controls both
 * arguments: this is the only way to its memory.
 */
void *port_ram(gpa_t address, u64 size);
/* Bytes of RAM. */
u64 port_ram_size(void);
/* C has written there for a device, or for the guest. */
void port_ram_written(gpa_t address, u32 size);

/* A device's registers have been moved on the memory bus: what is mapped there no longer counts. */
void port_devices_moved(void);

/* --- Time --- */

/* Guest time: nanoseconds since power-on, monotonic. */
u64 port_time(void);
/* Wall-clock time: nanoseconds since 1970-01-01 00:00:00 UTC. */
u64 port_wall_time(void);

/* --- Console: the other end of the UART's wire --- */
void port_console_write(u8 byte);
/* The guest polls for a byte from there. */
void port_console_awaited(void);

/* --- Block: the disk behind virtio-blk, in sectors of 512 bytes --- */

/* Disk size in sectors; 0 means no disk. */
u64 port_disk_sectors(void);
/* 0, or a negative errno. `size` is in bytes, a multiple of 512. */
int port_disk_read(u64 sector, void *to, u32 size);
int port_disk_write(u64 sector, const void *from, u32 size);
int port_disk_flush(void);

/* --- Messages --- */

/* Text for whoever runs the guest, not for the guest: warnings, a crash report. */
void port_message(const char *text);
void port_warn(const char *message); /* one line, once */

/* --- The end --- */

/* The guest lost itself; the report has been given. */
void port_crashed(void) __attribute__((noreturn));

/* The guest asked for a reset (keyboard controller, port 0xcf9 or triple fault). */
void port_reset(void) __attribute__((noreturn));

#endif
