/*
 * The devices of virtual PC version 1: two i8259, i8254, MC146818, 16550A,
 * PCI with a transitional virtio-blk, and the few ports of the board.
 *
 * They know time (port_time), RAM (port_ram) and the host's side of console
 * and disk, and nothing of the processor: it asks them for an interrupt.
 * Nothing ticks. What a register holds is computed from the time when it is
 * read; devices_run is needed only where the time itself raises an interrupt.
 */
#ifndef PREVIRT_DEVICES_H
#define PREVIRT_DEVICES_H

#include "core/types.h"

#include "generated/devices-state.h"

extern struct machine_devices machine_devices;

/*
 * Brings all devices into the state in which a PC's firmware leaves them:
 * interrupts masked, timer running, disk at I/O port c000, address fe000000 and IRQ 11.
 * `ram` is the size of guest RAM in bytes; the CMOS memory tells it.
 */
void devices_reset(u64 ram);

/* Port I/O. `size` is 1, 2 or 4 bytes. Ports without a device read as all ones. */
u32 devices_in(u16 port, unsigned size);
void devices_out(u16 port, unsigned size, u32 value);

/* Registers on the memory bus: whether any lie within a range, which does not go round, or at an address. */
static inline bool devices_are_within(gpa_t address, u32 size) {
    const struct pci *pci = &machine_devices.pci;
    return pci->window_size && address.value < (u64)pci->window + pci->window_size &&
           address.value + size > pci->window;
}
static inline bool devices_are_at(gpa_t address) { return devices_are_within(address, 1); }

/* Accesses to them, of 1, 2 or 4 bytes, at an address where devices_are_at. */
u32 devices_read(gpa_t address, unsigned size);
void devices_write(gpa_t address, unsigned size, u32 value);

/*
 * Guest time at which devices_run must be called next, or NEVER. Any port
 * access and devices_run itself may change it.
 */
static inline u64 devices_next_deadline(void) {
    u64 deadline = machine_devices.i8254.deadline;
    if (machine_devices.mc146818.deadline < deadline)
        deadline = machine_devices.mc146818.deadline;
    if (machine_devices.uart16550.deadline < deadline)
        deadline = machine_devices.uart16550.deadline;
    return deadline;
}

/* Raises the interrupts that are due at guest time `now`. */
void devices_run(u64 now);

/* The guest stood still from one guest time to another, before which nothing of it was run. */
void devices_stood_still(u64 from, u64 to);

/* Level of the INTR line. */
static inline bool devices_interrupt_pending(void) { return machine_devices.i8259[0].intr; }

/* The processor's interrupt acknowledge cycle: the vector, which may be a spurious one. */
u8 devices_interrupt_acknowledge(void);

/* A byte from the console's wire. Call it only if the UART has room for it. */
void uart_receive(u8 byte);
bool uart_can_receive(void);

#endif
