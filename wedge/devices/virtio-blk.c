/*
 * The disk: virtio-blk as a transitional device, with registers in memory
 * (virtio 1.1, 4.1.4) and the legacy ones at I/O ports (Virtio PCI Card
 * Specification 0.9.5). Requests are carried out while the driver notifies,
 * then the interrupt line is raised.
 *
 * Everything in the ring is hostile. Each address goes through port_ram, each
 * loop is bounded by the size of the queue, and what the specification forbids
 * a driver breaks the device until the driver resets it. A request is
 * framed as that specification demands: a header of 16 bytes, data in whole
 * sectors, one byte of status, each with descriptors of its own.
 */

#include "internal.h"

enum { QUEUE_SIZE = 256, SECTOR = 512 };

enum { F_SEG_MAX = 1 << 2, F_BLK_SIZE = 1 << 6, F_FLUSH = 1 << 9, FEATURES = F_SEG_MAX | F_BLK_SIZE | F_FLUSH };
enum { F_VERSION_1 = 1 << 0 }; /* in the second word of features */
static const u32 features[2] = {FEATURES, F_VERSION_1};

/* Device status (virtio 1.1, 2.1). */
enum { STATUS_FEATURES_OK = 8 };

/* What the device says of itself (virtio 1.1, 5.2.4). */
struct configuration {
    u32 capacity_low, capacity_high, size_max, seg_max, geometry, blk_size;
};

/* Registers in front of the device's own configuration (2.2.1 there). */
enum {
    GUEST_FEATURES = 4,
    QUEUE_PFN = 8,
    QUEUE_SELECT = 14,
    QUEUE_NOTIFY = 16,
    STATUS = 18,
    ISR = 19,
    CONFIGURATION = 20,
};

struct registers {
    u32 host_features, guest_features, queue_pfn;
    u16 queue_size, queue_select, queue_notify;
    u8 status, isr;
    struct configuration configuration;
};

struct descriptor {
    u64 address;
    u32 length;
    u16 flags, next;
};

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4, AVAIL_NO_INTERRUPT = 1 };

struct available {
    u16 flags, index, entries[];
};

struct used {
    u16 flags, index;
    struct {
        u32 id, length;
    } entries[];
};

/* Where the legacy interface has the other two rings, behind the descriptors. */
enum { LEGACY_AVAILABLE = PAGE_SIZE, LEGACY_USED = 2 * PAGE_SIZE };
_Static_assert(QUEUE_SIZE * sizeof(struct descriptor) == LEGACY_AVAILABLE, "the descriptors fill a page");

struct request {
    u32 type, priority;
    u64 sector;
};

enum { TYPE_IN = 0, TYPE_OUT = 1, TYPE_FLUSH = 4, TYPE_GET_ID = 8 };
enum { OK = 0, IO_ERROR = 1, UNSUPPORTED = 2 };

static struct virtio_blk *const blk = &machine_devices.virtio_blk;

void virtio_blk_update_irq(void) { i8259_set_irq(IRQ_DISK, blk->isr && pci_disk_interrupts()); }

static void break_device(const char *why) {
    blk->broken = 1;
    port_warn(why);
}

/* Each is good for some accesses only; NULL: not in RAM. */
static const struct descriptor *descriptor_at(u16 index) {
    u64 offset = (u64)index * sizeof(struct descriptor);
    return index < blk->queue_size ? port_ram(gpa(blk->queue_desc + offset), sizeof(struct descriptor)) : NULL;
}

static const struct available *available_ring(void) {
    return port_ram(gpa(blk->queue_driver), sizeof(struct available) + 2u * blk->queue_size);
}

static u32 used_size(void) { return sizeof(struct used) + 8u * blk->queue_size; }
static struct used *used_ring(void) { return port_ram(gpa(blk->queue_device), used_size()); }

static int transfer_sectors(const struct request *request, u64 sector, void *data, u32 length) {
    u64 count = length / SECTOR, capacity = port_disk_sectors();
    if (length % SECTOR || sector > capacity || count > capacity - sector)
        return IO_ERROR;
    int error = request->type == TYPE_IN ? port_disk_read(sector, data, length) : port_disk_write(sector, data, length);
    return error ? IO_ERROR : OK;
}

/* As much of RAM as is asked for at once. */
#define PIECE 0x10000u

static u32 piece(const struct descriptor *data, u32 offset) {
    u32 rest = data->length - offset;
    return rest < PIECE ? rest : PIECE;
}

/* Nothing is transferred if any of the data lies outside RAM. */
static int transfer_data(const struct request *request, const struct descriptor *data, u64 done) {
    u64 sector = request->sector + done / SECTOR, end = port_ram_size();
    if (data->address >= end || data->length > end - data->address)
        return IO_ERROR;
    int status = OK;
    for (u32 offset = 0; offset < data->length && status == OK; offset += PIECE) {
        void *memory = port_ram(gpa(data->address + offset), piece(data, offset));
        status = transfer_sectors(request, sector + offset / SECTOR, memory, piece(data, offset));
        port_ram_written(gpa(data->address + offset), piece(data, offset));
    }
    return status;
}

/* Carries out the part of a request that one data descriptor describes, `done` bytes into its data. */
static int transfer(const struct request *request, const struct descriptor *data, u64 done) {
    static const char identity[20] = "previrt";
    bool to_guest = data->flags & DESC_WRITE;
    void *memory;
    switch (request->type) {
    case TYPE_IN:
    case TYPE_OUT:
        return to_guest == (request->type == TYPE_IN) ? transfer_data(request, data, done) : IO_ERROR;
    case TYPE_GET_ID:
        memory = port_ram(gpa(data->address), sizeof(identity));
        if (!memory || !to_guest || done || data->length < sizeof(identity))
            return IO_ERROR;
        memcpy(memory, identity, sizeof(identity));
        port_ram_written(gpa(data->address), sizeof(identity));
        return OK;
    default:
        return UNSUPPORTED;
    }
}

static int finish(const struct request *request) {
    switch (request->type) {
    case TYPE_IN:
    case TYPE_GET_ID:
        return OK;
    case TYPE_OUT: /* a driver without flushes takes what it has written to be safe (virtio 1.1, 5.2.5) */
        return blk->driver_feature[0] & F_FLUSH || !port_disk_flush() ? OK : IO_ERROR;
    case TYPE_FLUSH:
        return port_disk_flush() ? IO_ERROR : OK;
    default:
        return UNSUPPORTED;
    }
}

/*
 * Carries out the request whose chain begins at `head`. Each descriptor is
 * copied before it is looked at, because a read may well overwrite the ring.
 * False if the chain is malformed.
 */
static bool process(u16 head, u32 *written) {
    struct request request;
    struct descriptor current;
    int status = OK;
    u64 done = 0;
    u16 index = head;
    *written = 0;
    for (unsigned position = 0; position < blk->queue_size; position++) {
        const struct descriptor *descriptor = descriptor_at(index);
        if (!descriptor)
            return false;
        current = *descriptor;
        bool last = !(current.flags & DESC_NEXT), to_guest = current.flags & DESC_WRITE;
        if (current.flags & DESC_INDIRECT || (position == 0 && last))
            return false;
        if (position == 0) {
            const void *header = port_ram(gpa(current.address), sizeof(request));
            if (!header || to_guest || current.length != sizeof(request))
                return false;
            memcpy(&request, header, sizeof(request));
        } else if (last) {
            u8 *result = port_ram(gpa(current.address), 1);
            if (!result || !to_guest || current.length != 1)
                return false;
            if (status == OK)
                status = finish(&request);
            *result = (u8)status;
            port_ram_written(gpa(current.address), 1);
            *written += 1;
            return true;
        } else if (status == OK) {
            status = transfer(&request, &current, done);
            done += current.length;
            if (to_guest && status == OK)
                *written += current.length;
        }
        index = current.next;
    }
    return false; /* a loop */
}

/* Puts a request among those that are done. False if the ring is not in RAM. */
static bool give_back(u16 head, u32 written) {
    struct used *used = used_ring();
    if (!used)
        return false;
    used->entries[blk->used_index % blk->queue_size].id = head;
    used->entries[blk->used_index % blk->queue_size].length = written;
    used->index = ++blk->used_index;
    port_ram_written(gpa(blk->queue_device), used_size());
    return true;
}

static void notify(void) {
    const struct available *available = available_ring();
    if (!(blk->queue_pfn || blk->queue_enable) || blk->broken)
        return;
    if (!available || !used_ring()) {
        break_device("virtio-blk: the queue lies outside RAM");
        return;
    }
    u16 waiting = (u16)(available->index - blk->last_avail);
    if (waiting > blk->queue_size) {
        break_device("virtio-blk: more requests than the queue holds");
        return;
    }
    u16 completed = 0;
    for (; completed < waiting; completed++) {
        u32 written;
        u16 head = available->entries[blk->last_avail++ % blk->queue_size];
        bool well_formed = process(head, &written);
        available = available_ring(); /* the pointer is good for some accesses only */
        if (!well_formed) {
            break_device("virtio-blk: malformed request");
            break;
        }
        if (!give_back(head, written))
            return;
    }
    if (completed && !(available->flags & AVAIL_NO_INTERRUPT)) {
        blk->isr = 1;
        virtio_blk_update_irq();
    }
}

static struct configuration configuration(void) {
    u64 capacity = port_disk_sectors();
    return (struct configuration){
        .capacity_low = (u32)capacity,
        .capacity_high = (u32)(capacity >> 32),
        .seg_max = QUEUE_SIZE - 2,
        .blk_size = SECTOR,
    };
}

/* The bytes at an offset of a structure; those behind it are 0. */
static u32 part_of(const void *structure, u32 length, u32 offset, unsigned size) {
    u32 value = 0;
    if (offset + size <= length)
        memcpy(&value, (const u8 *)structure + offset, size);
    return value;
}

static u8 take_isr(void) {
    u8 isr = blk->isr;
    blk->isr = 0;
    virtio_blk_update_irq();
    return isr;
}

static void set_status(u8 status) {
    /* Features that the device did not offer are none that it agrees to. */
    if (blk->driver_feature[0] & ~features[0] || blk->driver_feature[1] & ~features[1])
        status &= ~STATUS_FEATURES_OK;
    blk->status = status;
    if (!status)
        virtio_blk_reset();
}

static void start_queue(u64 desc, u64 driver, u64 device) {
    blk->queue_desc = desc;
    blk->queue_driver = driver;
    blk->queue_device = device;
    blk->last_avail = blk->used_index = 0;
}

/* --- The legacy interface, at I/O ports --- */

u32 virtio_blk_read(unsigned offset, unsigned size) {
    bool queue_0 = blk->queue_select == 0;
    struct registers registers = {
        .host_features = FEATURES,
        .guest_features = blk->driver_feature[0],
        .queue_pfn = queue_0 ? blk->queue_pfn : 0,
        .queue_size = queue_0 ? QUEUE_SIZE : 0,
        .queue_select = blk->queue_select,
        .status = blk->status,
        .isr = blk->isr,
        .configuration = configuration(),
    };
    u32 value = part_of(&registers, sizeof registers, offset, size);
    if (offset <= ISR && ISR < offset + size)
        take_isr();
    return value;
}

void virtio_blk_write(unsigned offset, unsigned size, u32 value) {
    u64 ring = (u64)value * PAGE_SIZE;
    (void)size; /* each register is written whole */
    switch (offset) {
    case GUEST_FEATURES: blk->driver_feature[0] = value & FEATURES; break;
    case QUEUE_PFN:
        if (blk->queue_select == 0) {
            blk->queue_pfn = value;
            blk->queue_size = QUEUE_SIZE;
            start_queue(ring, ring + LEGACY_AVAILABLE, ring + LEGACY_USED);
        }
        break;
    case QUEUE_SELECT: blk->queue_select = (u16)value; break;
    case QUEUE_NOTIFY:
        if ((u16)value == 0)
            notify();
        break;
    case STATUS: set_status((u8)value); break;
    default: break;
    }
}

/* --- Registers in memory: four pages of BAR 4 (pci.c) --- */

enum { PAGE_COMMON, PAGE_ISR, PAGE_DEVICE, PAGE_NOTIFY };

/* virtio 1.1, 4.1.4.3 */
struct common {
    u32 device_feature_select, device_feature, driver_feature_select, driver_feature;
    u16 config_msix_vector, num_queues;
    u8 device_status, config_generation;
    u16 queue_select, queue_size, queue_msix_vector, queue_enable, queue_notify_off;
    u32 queue_desc[2], queue_driver[2], queue_device[2];
};
#define AT(field) __builtin_offsetof(struct common, field)

enum { NO_VECTOR = 0xffff };

static struct common common(void) {
    struct common registers = {
        .device_feature_select = blk->device_feature_select,
        .device_feature = blk->device_feature_select < 2 ? features[blk->device_feature_select] : 0,
        .driver_feature_select = blk->driver_feature_select,
        .driver_feature = blk->driver_feature_select < 2 ? blk->driver_feature[blk->driver_feature_select] : 0,
        .config_msix_vector = NO_VECTOR,
        .num_queues = 1,
        .device_status = blk->status,
        .queue_select = blk->queue_select,
        .queue_msix_vector = NO_VECTOR,
        .queue_notify_off = blk->queue_select,
    };
    if (blk->queue_select == 0) {
        registers.queue_size = blk->queue_size;
        registers.queue_enable = blk->queue_enable;
        memcpy(registers.queue_desc, &blk->queue_desc, 8);
        memcpy(registers.queue_driver, &blk->queue_driver, 8);
        memcpy(registers.queue_device, &blk->queue_device, 8);
    }
    return registers;
}

u32 virtio_blk_memory_read(u32 offset, unsigned size) {
    struct common registers = common();
    struct configuration config = configuration();
    switch (offset / PAGE_SIZE) {
    case PAGE_COMMON: return part_of(&registers, sizeof registers, offset, size);
    case PAGE_ISR: return offset % PAGE_SIZE ? 0 : take_isr();
    case PAGE_DEVICE: return part_of(&config, sizeof config, offset % PAGE_SIZE, size);
    default: return 0;
    }
}

/* An address can be written as two halves. */
static void write_address(u64 *address, u32 offset, unsigned size, u32 value) {
    if (offset % 4 + size <= 4)
        memcpy((u8 *)address + offset, &value, size);
}

static void write_queue(u32 offset, unsigned size, u32 value) {
    if (offset >= AT(queue_desc) && offset < sizeof(struct common)) {
        u64 *const addresses[] = {&blk->queue_desc, &blk->queue_driver, &blk->queue_device};
        offset -= AT(queue_desc);
        write_address(addresses[offset / 8], offset % 8, size, value);
    } else if (offset == AT(queue_size)) {
        if (value && value <= QUEUE_SIZE && !(value & (value - 1)))
            blk->queue_size = (u16)value;
    } else if (offset == AT(queue_enable) && value == 1) {
        blk->queue_enable = 1;
        blk->last_avail = blk->used_index = 0;
    }
}

static void write_common(u32 offset, unsigned size, u32 value) {
    switch (offset) {
    case AT(device_feature_select): blk->device_feature_select = value; break;
    case AT(driver_feature_select): blk->driver_feature_select = value; break;
    case AT(driver_feature):
        if (blk->driver_feature_select < 2)
            blk->driver_feature[blk->driver_feature_select] = value;
        break;
    case AT(device_status): set_status((u8)value); break;
    case AT(queue_select): blk->queue_select = (u16)value; break;
    default:
        /* A queue that is at work stays where it is. */
        if (blk->queue_select == 0 && !blk->queue_enable)
            write_queue(offset, size, value);
    }
}

void virtio_blk_memory_write(u32 offset, unsigned size, u32 value) {
    if (offset / PAGE_SIZE == PAGE_COMMON)
        write_common(offset, size, value);
    else if (offset == PAGE_NOTIFY * PAGE_SIZE)
        notify();
}

void virtio_blk_reset(void) {
    *blk = (struct virtio_blk){.queue_size = QUEUE_SIZE};
    virtio_blk_update_irq();
}
