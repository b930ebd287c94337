/* What the devices are to each other: interrupt lines, and handlers of port accesses. */
#ifndef PREVIRT_DEVICES_INTERNAL_H
#define PREVIRT_DEVICES_INTERNAL_H

#include "core/port.h"

#include "devices.h"

enum irq { IRQ_TIMER = 0, IRQ_CASCADE = 2, IRQ_UART = 4, IRQ_RTC = 8, IRQ_DISK = 11 };

/* --- i8259 --- */
void i8259_reset(void);
u8 i8259_read(u16 port);
void i8259_write(u16 port, u8 value);
u8 elcr_read(u16 port);
void elcr_write(u16 port, u8 value);
void i8259_set_irq(enum irq irq, bool level);
/* A request that waits for the processor, masked or not. */
static inline bool i8259_timer_requested(void) { return machine_devices.i8259[0].irr & 1 << IRQ_TIMER; }
static inline bool i8259_timer_masked(void) { return machine_devices.i8259[0].imr & 1 << IRQ_TIMER; }

/* --- i8254 --- */
void i8254_reset(void);
u8 i8254_read(u16 port);
void i8254_write(u16 port, u8 value);
void i8254_run(u64 now);
void i8254_stood_still(u64 from, u64 to);
/* The processor took a timer interrupt: raises the next one that is owed. */
void i8254_acknowledged(void);
void i8254_set_speaker_gate(bool level);
bool i8254_speaker_output(void);
bool i8254_refresh_toggle(void);

/* --- MC146818 --- */
void mc146818_reset(u64 ram);
u8 mc146818_read(u16 port);
void mc146818_write(u16 port, u8 value);
void mc146818_run(u64 now);

/* --- 16550A --- */
void uart_reset(void);
u8 uart_read(u16 port);
void uart_write(u16 port, u8 value);
void uart_run(u64 now);

/* --- PCI and virtio-blk --- */
void pci_reset(void);
u32 pci_read(u16 port, unsigned size);
void pci_write(u16 port, unsigned size, u32 value);
/* First port of the disk if its ports are enabled, else 0. */
static inline u32 pci_disk_ports(void) {
    return machine_devices.pci.command & 1 ? machine_devices.pci.bar : 0;
}
/* Whether it may interrupt: Interrupt Disable is off (PCI Local Bus 2.3, 6.2.2). */
static inline bool pci_disk_interrupts(void) { return !(machine_devices.pci.command & 0x400); }
#define VIRTIO_BLK_PORTS 64u
#define VIRTIO_BLK_MEMORY 0x4000u
void virtio_blk_reset(void);
void virtio_blk_update_irq(void);
u32 virtio_blk_read(unsigned offset, unsigned size);
void virtio_blk_write(unsigned offset, unsigned size, u32 value);
u32 virtio_blk_memory_read(u32 offset, unsigned size);
void virtio_blk_memory_write(u32 offset, unsigned size, u32 value);

#endif
