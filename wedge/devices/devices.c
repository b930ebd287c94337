/* Which port belongs to which device, and all devices together. */

#include "devices.h"

#include "internal.h"

struct machine_devices machine_devices;

/* --- Ports of the board (Intel 82371SB data sheet; port 61: IBM PC AT) --- */

static u8 system_read(u16 port) {
    enum { REFRESH = 1 << 4, SPEAKER_OUT = 1 << 5 };
    if (port == 0x61)
        return machine_devices.system.port_61 | (i8254_refresh_toggle() ? REFRESH : 0) |
               (i8254_speaker_output() ? SPEAKER_OUT : 0);
    if (port == 0x92)
        return machine_devices.system.port_92;
    return 0xff;
}

static void system_write(u16 port, u8 value) {
    enum { KEYBOARD_PULSE_RESET = 0xfe, FAST_RESET = 1, A20 = 2, GATE = 1, SPEAKER = 2 };
    if (port == 0x61) {
        machine_devices.system.port_61 = value & (GATE | SPEAKER);
        i8254_set_speaker_gate(value & GATE);
    } else if (port == 0x92) {
        machine_devices.system.port_92 = value & A20; /* kept, but A20 is never off */
        if (value & FAST_RESET)
            port_reset();
    } else if (port == 0x64 && value == KEYBOARD_PULSE_RESET) {
        port_reset();
    }
}

/* --- Ports to devices: one byte for each group of eight ports --- */

enum device { ABSENT, I8259, I8254, SYSTEM, MC146818, UART, ELCR, PCI };

static const u8 device_of_group[] = {
    [0x020 >> 3] = I8259, [0x0a0 >> 3] = I8259, [0x040 >> 3] = I8254, [0x060 >> 3] = SYSTEM, [0x090 >> 3] = SYSTEM,
    [0x070 >> 3] = MC146818, [0x3f8 >> 3] = UART, [0x4d0 >> 3] = ELCR, [0xcf8 >> 3] = PCI,
};

/* `ports` has a bit for each of the eight that the device decodes. */
static const struct {
    u8 ports;
    u8 (*read)(u16 port);
    void (*write)(u16 port, u8 value);
} devices[] = {
    [I8259] = {0x03, i8259_read, i8259_write},
    [I8254] = {0x0f, i8254_read, i8254_write},
    [SYSTEM] = {0x16, system_read, system_write}, /* 61, 64, 92 */
    [MC146818] = {0x03, mc146818_read, mc146818_write},
    [UART] = {0xff, uart_read, uart_write},
    [ELCR] = {0x03, elcr_read, elcr_write},
    [PCI] = {0x00, NULL, NULL}, /* takes accesses of every size, see below */
};

static enum device device_at(u16 port) {
    unsigned group = port >> 3;
    return group < sizeof(device_of_group) ? device_of_group[group] : ABSENT;
}

static bool decodes(enum device device, u16 port) { return devices[device].ports >> (port & 7) & 1; }

/* Offset into the disk's ports, or VIRTIO_BLK_PORTS and more. */
static u32 disk_offset(u16 port) {
    u32 first = pci_disk_ports();
    return first ? port - first : VIRTIO_BLK_PORTS;
}

static u32 all_ones(unsigned size) { return size == 4 ? ~0u : (1u << 8 * size) - 1; }

u32 devices_in(u16 port, unsigned size) {
    u32 offset = disk_offset(port);
    if (offset < VIRTIO_BLK_PORTS)
        return virtio_blk_read(offset, size) & all_ones(size);
    if (device_at(port) == PCI)
        return pci_read(port, size) & all_ones(size);
    /* The rest sits on an 8-bit bus: wider accesses are split. */
    u32 value = 0;
    for (unsigned i = 0; i < size; i++) {
        u16 at = (u16)(port + i);
        enum device device = device_at(at);
        value |= (u32)(decodes(device, at) ? devices[device].read(at) : 0xff) << 8 * i;
    }
    return value;
}

void devices_out(u16 port, unsigned size, u32 value) {
    u32 offset = disk_offset(port);
    value &= all_ones(size);
    if (offset < VIRTIO_BLK_PORTS) {
        virtio_blk_write(offset, size, value);
        return;
    }
    if (device_at(port) == PCI) {
        pci_write(port, size, value);
        return;
    }
    for (unsigned i = 0; i < size; i++) {
        u16 at = (u16)(port + i);
        enum device device = device_at(at);
        if (decodes(device, at))
            devices[device].write(at, (u8)(value >> 8 * i));
    }
}

u32 devices_read(gpa_t address, unsigned size) {
    return virtio_blk_memory_read((u32)address.value - machine_devices.pci.window, size) & all_ones(size);
}

void devices_write(gpa_t address, unsigned size, u32 value) {
    virtio_blk_memory_write((u32)address.value - machine_devices.pci.window, size, value & all_ones(size));
}

void devices_run(u64 now) {
    i8254_run(now);
    mc146818_run(now);
    uart_run(now);
}

void devices_stood_still(u64 from, u64 to) { i8254_stood_still(from, to); }

void devices_reset(u64 ram) {
    machine_devices.system = (struct system_ports){.port_92 = 2};
    i8259_reset();
    i8254_reset();
    mc146818_reset(ram);
    uart_reset();
    pci_reset();
    virtio_blk_reset();
}
