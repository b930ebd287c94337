/*
 * PCI configuration mechanism 1 (PCI Local Bus 2.1, 3.7.4.1) with two
 * functions on bus 0: a host bridge at device 0 and, if there is a disk,
 * virtio-blk at device 3. Its INTA is wired to IRQ 11, and its ports have
 * already been assigned, as by firmware.
 */

#include "internal.h"

enum { CONFIG_ADDRESS = 0xcf8, CONFIG_DATA = 0xcfc };
enum { COMMAND = 0x04, BAR0 = 0x10, INTERRUPT_LINE = 0x3c, HEADER_SIZE = 0x40 };
enum { COMMAND_WRITABLE = 0x0507, COMMAND_IO = 1, COMMAND_MASTER = 4, BAR_IO = 1 };

static struct pci *const pci = &machine_devices.pci;

enum function { HOST_BRIDGE, DISK, FUNCTIONS };

static const struct {
    u8 device;
    u8 header[HEADER_SIZE];
} functions[FUNCTIONS] = {
    [HOST_BRIDGE] = {0, {[0x00] = 0x86, 0x80, 0x37, 0x12, /* Intel 440FX */
                         [0x04] = 0x06, 0x00, 0x00, 0x02,
                         [0x08] = 0x02, 0x00, 0x00, 0x06, /* host bridge */
                         [0x2c] = 0xf4, 0x1a, 0x00, 0x11}},
    [DISK] = {3, {[0x00] = 0xf4, 0x1a, 0x01, 0x10, /* virtio block device, legacy */
                  [0x08] = 0x00, 0x00, 0x00, 0x01, /* revision 0: ABI version 0; mass storage */
                  [0x2c] = 0xf4, 0x1a, 0x02, 0x00, /* subsystem 2: block */
                  [0x3d] = 0x01 /* INTA */}},
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
    if (offset >= HEADER_SIZE)
        return 0;
    if (function == DISK) {
        if (offset - COMMAND < 2)
            return (u8)(pci->command >> 8 * (offset - COMMAND));
        if (offset - BAR0 < 4)
            return (u8)((pci->bar | BAR_IO) >> 8 * (offset - BAR0));
        if (offset == INTERRUPT_LINE)
            return pci->interrupt_line;
    }
    return functions[function].header[offset];
}

static u32 with_byte(u32 word, unsigned index, u8 byte) {
    return (word & ~(0xffu << 8 * index)) | (u32)byte << 8 * index;
}

static void write_config_byte(unsigned offset, u8 value) {
    if (offset - COMMAND < 2)
        pci->command = with_byte(pci->command, offset - COMMAND, value) & COMMAND_WRITABLE;
    else if (offset - BAR0 < 4)
        pci->bar = with_byte(pci->bar, offset - BAR0, value) & ~(VIRTIO_BLK_PORTS - 1);
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
    }
}

void pci_reset(void) {
    bool disk = port_disk_sectors();
    *pci = (struct pci){.bar = disk ? 0xc000 : 0, .command = disk ? COMMAND_IO | COMMAND_MASTER : 0, .interrupt_line = IRQ_DISK};
}
