/*
 * Drives the devices from standard input: one command a line, one answer a
 * line. Plays the target (the port functions) with a clock that only moves
 * when told to, RAM and a disk in memory.
 *
 *   reset RAM-BYTES DISK-SECTORS     machine reset; clears RAM and disk
 *   time NS                          set guest time, tell nobody
 *   wall NS                          set wall-clock time at guest time 0
 *   still NS                         the guest stands still until NS
 *   run                              devices_run at the time as it is
 *   until NS                         go to NS, stopping at every deadline; answers how often
 *   deadline                         the next deadline, or "never"
 *   out PORT SIZE VALUE, in PORT SIZE
 *   store ADDRESS SIZE VALUE, load ADDRESS SIZE    registers in memory; "none" where there are none
 *   irq LINE LEVEL                   an interrupt line
 *   intr                             the INTR line
 *   ack                              interrupt acknowledge cycle, if INTR is up: vector or "none"
 *   inta                             the cycle in any case
 *   drain                            cycles, each with its end of interrupt, until INTR is down; how many
 *   receive BYTE                     from the console's wire; "full" if there is no room
 *   console                          what was written to the console since it was last asked for
 *   awaited                          whether the guest has polled for a byte from there since that was last asked
 *   poke ADDRESS HEX, peek ADDRESS COUNT
 *   disk HEX-OFFSET COUNT            contents of the disk
 *   flushed                          whether all that was written to it has been flushed
 *
 * Numbers are decimal or 0x. A reset by the guest is answered "reset".
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/port.h"
#include "devices/devices.h"
#include "devices/internal.h"

/* The devices' own, so that a sanitizer watches every byte that they move. */
void *memcpy(void *restrict to, const void *restrict from, usize size) {
    for (usize i = 0; i < size; i++)
        ((u8 *)to)[i] = ((const u8 *)from)[i];
    return to;
}

void *memset(void *to, int byte, usize size) {
    for (usize i = 0; i < size; i++)
        ((u8 *)to)[i] = (u8)byte;
    return to;
}

static u8 *ram, *disk;
static u64 ram_size, disk_sectors, now, wall;
static bool unflushed, console_awaited;
static u8 console[65536];
static unsigned console_length;
static jmp_buf guest_reset;

/* What a target need not show at once, none shows here. */
#define SHOWN 0x10000u

void *port_ram(gpa_t address, u64 size) {
    bool there = address.value < ram_size && size <= ram_size - address.value;
    return there && size <= SHOWN ? ram + address.value : NULL;
}

u64 port_ram_size(void) { return ram_size; }

void port_devices_moved(void) {}

void port_ram_written(gpa_t address, u32 size) {
    if (address.value > ram_size || size > ram_size - address.value) {
        fprintf(stderr, "the device tells that it wrote beyond RAM\n");
        abort();
    }
}

u64 port_time(void) { return now; }
u64 port_wall_time(void) { return wall + now; }

void port_console_awaited(void) { console_awaited = true; }
void port_console_write(u8 byte) {
    if (console_length < sizeof(console))
        console[console_length++] = byte;
}

u64 port_disk_sectors(void) { return disk_sectors; }

static u8 *disk_at(u64 sector, u32 size) {
    if (size % 512 || sector * 512 + size > disk_sectors * 512) {
        fprintf(stderr, "the device reaches beyond the disk\n");
        abort();
    }
    return disk + sector * 512;
}

int port_disk_read(u64 sector, void *to, u32 size) {
    memcpy(to, disk_at(sector, size), size);
    return 0;
}

int port_disk_write(u64 sector, const void *from, u32 size) {
    memcpy(disk_at(sector, size), from, size);
    unflushed = true;
    return 0;
}

int port_disk_flush(void) {
    unflushed = false;
    return 0;
}
void port_warn(const char *message) { fprintf(stderr, "%s\n", message); }
void port_reset(void) { longjmp(guest_reset, 1); }

static void hex(const u8 *bytes, u64 count) {
    for (u64 i = 0; i < count; i++)
        printf("%02x", bytes[i]);
    printf("\n");
}

static void machine_reset(u64 size, u64 sectors) {
    free(ram);
    free(disk);
    ram_size = size;
    disk_sectors = sectors;
    ram = calloc(1, size ? size : 1);
    disk = calloc(1, sectors ? sectors * 512 : 1);
    console_length = 0;
    devices_reset(size);
}

static unsigned run_until(u64 end) {
    unsigned runs = 0;
    for (u64 due; (due = devices_next_deadline()) <= end; runs++) {
        now = due > now ? due : now;
        devices_run(now);
    }
    now = end;
    return runs;
}

static void poke(u64 address, const char *digits) {
    unsigned byte;
    for (; sscanf(digits, "%2x", &byte) == 1; digits += 2)
        *(u8 *)port_ram(gpa(address++), 1) = (u8)byte;
}

static void command(char *line) {
    char *argument[4] = {0}, *at = line;
    for (int i = 0; i < 4 && (argument[i] = strtok(i ? NULL : at, " \n")); i++)
        ;
    const char *verb = argument[0] ? argument[0] : "";
    u64 a = argument[1] ? strtoull(argument[1], NULL, 0) : 0;
    u64 b = argument[2] ? strtoull(argument[2], NULL, 0) : 0;
    u64 c = argument[3] ? strtoull(argument[3], NULL, 0) : 0;
    const char *answer = "ok";

    if (!strcmp(verb, "reset")) {
        machine_reset(a, b);
    } else if (!strcmp(verb, "time")) {
        now = a;
    } else if (!strcmp(verb, "wall")) {
        wall = a;
    } else if (!strcmp(verb, "still")) {
        devices_stood_still(now, a);
        now = a;
    } else if (!strcmp(verb, "run")) {
        devices_run(now);
    } else if (!strcmp(verb, "until")) {
        printf("%u\n", run_until(a));
        return;
    } else if (!strcmp(verb, "deadline")) {
        u64 due = devices_next_deadline();
        if (due != NEVER) {
            printf("%llu\n", due);
            return;
        }
        answer = "never";
    } else if (!strcmp(verb, "out")) {
        devices_out((u16)a, (unsigned)b, (u32)c);
    } else if (!strcmp(verb, "in")) {
        printf("0x%x\n", devices_in((u16)a, (unsigned)b));
        return;
    } else if ((!strcmp(verb, "load") || !strcmp(verb, "store")) && !devices_are_at(gpa(a))) {
        answer = "none";
    } else if (!strcmp(verb, "load")) {
        printf("0x%x\n", devices_read(gpa(a), (unsigned)b));
        return;
    } else if (!strcmp(verb, "store")) {
        devices_write(gpa(a), (unsigned)b, (u32)c);
    } else if (!strcmp(verb, "irq")) {
        i8259_set_irq((enum irq)a, b);
    } else if (!strcmp(verb, "intr")) {
        answer = devices_interrupt_pending() ? "1" : "0";
    } else if (!strcmp(verb, "inta") || (!strcmp(verb, "ack") && devices_interrupt_pending())) {
        printf("0x%x\n", devices_interrupt_acknowledge());
        return;
    } else if (!strcmp(verb, "ack")) {
        answer = "none";
    } else if (!strcmp(verb, "drain")) {
        u32 taken = 0;
        for (; devices_interrupt_pending(); taken++) {
            devices_interrupt_acknowledge();
            devices_out(0x20, 1, 0x20);
        }
        printf("%u\n", taken);
        return;
    } else if (!strcmp(verb, "receive")) {
        if (uart_can_receive())
            uart_receive((u8)a);
        else
            answer = "full";
    } else if (!strcmp(verb, "console")) {
        hex(console, console_length);
        console_length = 0;
        return;
    } else if (!strcmp(verb, "awaited")) {
        answer = console_awaited ? "yes" : "no";
        console_awaited = false;
    } else if (!strcmp(verb, "poke")) {
        poke(a, argument[2]);
    } else if (!strcmp(verb, "peek")) {
        hex(ram + a, b);
        return;
    } else if (!strcmp(verb, "disk")) {
        hex(disk + a, b);
        return;
    } else if (!strcmp(verb, "flushed")) {
        answer = unflushed ? "no" : "yes";
    } else {
        fprintf(stderr, "harness: unknown command %s\n", verb);
        exit(2);
    }
    puts(answer);
}

int main(void) {
    static char line[1 << 20];
    setvbuf(stdout, NULL, _IOLBF, 0); /* whoever asks waits for the answer */
    machine_reset(1 << 20, 0);
    while (fgets(line, sizeof(line), stdin)) {
        if (setjmp(guest_reset))
            puts("reset");
        else
            command(line);
    }
    return 0;
}
