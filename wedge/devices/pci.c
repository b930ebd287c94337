/*
 * PCI configuration mechanism 1 (PCI Local Bus 2.1, 3.7.4.1) with two
 * functions on bus 0: a host bridge at device 0 and, if there is a disk,
 * virtio-blk at device 3. Its INTA is wired to IRQ 11, and its ports and its
 * registers in memory have already been assigned, as by firmware.
 */

#include "internal.h"

enum { CONFIG_ADDRESS = 0xcf8, CONFIG_DATA = 0xcfc };
enum { COMMAND = 0x04, STATUS = 0x06, BAR0 = 0x10, BAR4 = 0x20, INTERRUPT_LINE = 0x3c, SPACE_SIZE = 0x90 };
enum { COMMAND_WRITABLE = 0x0507, COMMAND_IO = 1, COMMAND_MEMORY = 2, COMMAND_MASTER = 4 };
enum { STATUS_INTERRUPT = 1 << 3 }; /* PCI Local Bus 2.3, 6.2.3 */
enum { BAR_IO = 1, BAR_64_PREFETCHABLE = 0xc };
#define DISK_MEMORY 0xfe000000u

/* One of virtio's capabilities (virtio 1.1, 4.1.4): where in BAR 4 a kind of its registers lies. */
#define VIRTIO_CAPABILITY(at, next, length, type, offset) \
    [at] = 0x09, next, length, type, 4, 0, 0, 0,          \
    0x00, (offset) >> 8, 0, 0, 0x00, 0x10, 0, 0

static struct pci *const pci = &machine_devices.pci;

enum function { HOST_BRIDGE, DISK, FUNCTIONS };

static const struct {
    u8 device;
    u8 space[SPACE_SIZE];
} functions[FUNCTIONS] = {
    [HOST_BRIDGE] = {0, {[0x00] = 0x86, 0x80, 0x37, 0x12, /* Intel 440FX */
                         [0x04] = 0x06, 0x00, 0x00, 0x02,
                         [0x08] = 0x02, 0x00, 0x00, 0x06, /* host bridge */
                         [0x2c] = 0xf4, 0x1a, 0x00, 0x11}},
    [DISK] = {3, {[0x00] = 0xf4, 0x1a, 0x01, 0x10, /* virtio block device, transitional */
                  [0x06] = 0x10, /* there are capabilities */
                  [0x08] = 0x00, 0x00, 0x00, 0x01, /* revision 0: ABI version 0; mass storage */
                  [0x2c] = 0xf4, 0x1a, 0x02, 0x00, /* subsystem 2: block */
                  [0x34] = 0x40, /* the first of them */
                  [0x3d] = 0x01, /* INTA */
                  VIRTIO_CAPABILITY(0x40, 0x50, 16, 1, 0x0000), /* common configuration */
                  VIRTIO_CAPABILITY(0x50, 0x60, 16, 3, 0x1000), /* ISR status */
                  VIRTIO_CAPABILITY(0x60, 0x70, 16, 4, 0x2000), /* the device's configuration */
                  VIRTIO_CAPABILITY(0x70, 0x00, 20, 2, 0x3000), /* notifications, */
                  [0x80] = 4 /* 4 bytes apart */}},
};

/* The function that the configuration address selects, or FUNCTIONS. */
static enum function selected(void) {
    u32 address = pci->config_address;
    if (!(address & 0x80000000) || address & 0x00ff0700) /* bus 0, function 0 */
        return FUNCTIONS;
    for (unsigned i = 0; i < FUNCTIONS; i++)
        if (functions[i].device == (address >> 11 & 31))
            return i == DISK && !port_disk_sectors() ? FUNCTIONS : (enum function)i;
    return FUNCTIONS;
}

static u8 config_byte(enum function function, unsigned offset) {
    if (offset >= SPACE_SIZE)
        return 0;
    if (function == DISK) {
        if (offset - COMMAND < 2)
            return (u8)(pci->command >> 8 * (offset - COMMAND));
        if (offset == STATUS && machine_devices.virtio_blk.isr)
            return functions[DISK].space[STATUS] | STATUS_INTERRUPT;
        if (offset - BAR0 < 4)
            return (u8)((pci->bar | BAR_IO) >> 8 * (offset - BAR0));
        if (offset - BAR4 < 4)
            return (u8)((pci->memory_bar[0] | BAR_64_PREFETCHABLE) >> 8 * (offset - BAR4));
        if (offset - BAR4 < 8)
            return (u8)(pci->memory_bar[1] >> 8 * (offset - BAR4 - 4));
        if (offset == INTERRUPT_LINE)
            return pci->interrupt_line;
    }
    return functions[function].space[offset];
}

static u32 with_byte(u32 word, unsigned index, u8 byte) {
    return (word & ~(0xffu << 8 * index)) | (u32)byte << 8 * index;
}

/* What the BAR and the command register say. RAM stays in front of it, and nothing lies above 4 GiB. */
static void place_window(void) {
    u32 base = pci->memory_bar[0];
    bool on = (pci->command & COMMAND_MEMORY) && base && !pci->memory_bar[1] &&
              base <= ~0u - (VIRTIO_BLK_MEMORY - 1) && !port_ram(gpa(base), 1);
    u32 window = on ? base : 0, size = on ? VIRTIO_BLK_MEMORY : 0;
    if (window == pci->window && size == pci->window_size)
        return;
    pci->window = window;
    pci->window_size = size;
    port_devices_moved();
}

static void write_config_byte(unsigned offset, u8 value) {
    if (offset - COMMAND < 2)
        pci->command = with_byte(pci->command, offset - COMMAND, value) & COMMAND_WRITABLE;
    else if (offset - BAR0 < 4)
        pci->bar = with_byte(pci->bar, offset - BAR0, value) & ~(VIRTIO_BLK_PORTS - 1);
    else if (offset - BAR4 < 4)
        pci->memory_bar[0] = with_byte(pci->memory_bar[0], offset - BAR4, value) & ~(VIRTIO_BLK_MEMORY - 1);
    else if (offset - BAR4 < 8)
        pci->memory_bar[1] = with_byte(pci->memory_bar[1], offset - BAR4 - 4, value);
    else if (offset == INTERRUPT_LINE)
        pci->interrupt_line = value;
}

u32 pci_read(u16 port, unsigned size) {
    if (port == CONFIG_ADDRESS && size == 4)
        return pci->config_address;
    if (port < CONFIG_DATA)
        return port == 0xcf9 && size == 1 ? machine_devices.system.port_cf9 : ~0u;
    enum function function = selected();
    u32 value = 0;
    if (function == FUNCTIONS)
        return ~0u;
    for (unsigned i = 0; i < size; i++)
        value = with_byte(value, i, config_byte(function, (pci->config_address & 0xfc) + (port & 3) + i));
    return value;
}

void pci_write(u16 port, unsigned size, u32 value) {
    enum { RESET_CPU = 4 };
    if (port == CONFIG_ADDRESS && size == 4) {
        pci->config_address = value & 0x80fffffc;
    } else if (port == 0xcf9 && size == 1) {
        machine_devices.system.port_cf9 = value & 2;
        if (value & RESET_CPU)
            port_reset();
    } else if (port >= CONFIG_DATA && selected() == DISK) {
        for (unsigned i = 0; i < size; i++)
            write_config_byte((pci->config_address & 0xfc) + (port & 3) + i, (u8)(value >> 8 * i));
        place_window();
        virtio_blk_update_irq();
    }
}

void pci_reset(void) {
    bool disk = port_disk_sectors();
    *pci = (struct pci){.interrupt_line = IRQ_DISK};
    if (disk) {
        pci->bar = 0xc000;
        pci->memory_bar[0] = DISK_MEMORY;
        pci->command = COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER;
    }
    place_window();
}
