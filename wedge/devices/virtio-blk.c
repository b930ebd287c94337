/*
 * The disk: virtio-blk with the legacy interface (Virtio PCI Card
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
    u32 capacity_low, capacity_high, size_max, seg_max, geometry, blk_size;
};

struct descriptor {
    u64 address;
    u32 length;
    u16 flags, next;
};

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4, AVAIL_NO_INTERRUPT = 1 };

struct ring {
    struct descriptor descriptors[QUEUE_SIZE];
    struct {
        u16 flags, index, entries[QUEUE_SIZE];
    } available;
    u8 padding[PAGE_SIZE - 4 - 2 * QUEUE_SIZE];
    struct {
        u16 flags, index;
        struct {
            u32 id, length;
        } entries[QUEUE_SIZE];
    } used;
};
_Static_assert(__builtin_offsetof(struct ring, used) == 2 * PAGE_SIZE, "the used ring lies on a page of its own");

struct request {
    u32 type, priority;
    u64 sector;
};

enum { TYPE_IN = 0, TYPE_OUT = 1, TYPE_FLUSH = 4, TYPE_GET_ID = 8 };
enum { OK = 0, IO_ERROR = 1, UNSUPPORTED = 2 };

static struct virtio_blk *const blk = &machine_devices.virtio_blk;

static void break_device(const char *why) {
    blk->broken = 1;
    port_warn(why);
}

static struct ring *queue(void) { return port_ram(gpa((u64)blk->queue_pfn * PAGE_SIZE), sizeof(struct ring)); }

static struct descriptor *descriptor_at(struct ring *ring, u16 index) {
    return index < QUEUE_SIZE ? &ring->descriptors[index] : NULL;
}

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
    u64 sector = request->sector + done / SECTOR;
    for (u32 offset = 0; offset < data->length; offset += PIECE)
        if (!port_ram(gpa(data->address + offset), piece(data, offset)))
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
    case TYPE_OUT:
    case TYPE_GET_ID:
        return OK;
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
    for (unsigned position = 0; position < QUEUE_SIZE; position++) {
        struct descriptor *descriptor = descriptor_at(queue(), index);
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

static void notify(void) {
    struct ring *ring = queue();
    if (!blk->queue_pfn || blk->broken)
        return;
    if (!ring) {
        break_device("virtio-blk: the queue lies outside RAM");
        return;
    }
    u16 waiting = (u16)(ring->available.index - blk->last_avail);
    if (waiting > QUEUE_SIZE) {
        break_device("virtio-blk: more requests than the queue holds");
        return;
    }
    u16 completed = 0;
    for (; completed < waiting; completed++) {
        u32 written;
        u16 head = ring->available.entries[blk->last_avail++ % QUEUE_SIZE];
        bool well_formed = process(head, &written);
        ring = queue(); /* the pointer is good for some accesses only */
        if (!well_formed) {
            break_device("virtio-blk: malformed request");
            break;
        }
        ring->used.entries[blk->used_index % QUEUE_SIZE].id = head;
        ring->used.entries[blk->used_index % QUEUE_SIZE].length = written;
        ring->used.index = ++blk->used_index;
        port_ram_written(gpa((u64)blk->queue_pfn * PAGE_SIZE), sizeof *ring);
    }
    if (completed && !(ring->available.flags & AVAIL_NO_INTERRUPT)) {
        blk->isr = 1;
        i8259_set_irq(IRQ_DISK, true);
    }
}

u32 virtio_blk_read(unsigned offset, unsigned size) {
    bool queue_0 = blk->queue_select == 0;
    u64 capacity = port_disk_sectors();
    struct registers registers = {
        .host_features = FEATURES,
        .guest_features = blk->guest_features,
        .queue_pfn = queue_0 ? blk->queue_pfn : 0,
        .queue_size = queue_0 ? QUEUE_SIZE : 0,
        .queue_select = blk->queue_select,
        .status = blk->status,
        .isr = blk->isr,
        .capacity_low = (u32)capacity,
        .capacity_high = (u32)(capacity >> 32),
        .seg_max = QUEUE_SIZE - 2,
        .blk_size = SECTOR,
    };
    u32 value = 0;
    if (offset + size <= sizeof(registers))
        memcpy(&value, (const u8 *)&registers + offset, size);
    if (offset <= ISR && ISR < offset + size) {
        blk->isr = 0;
        i8259_set_irq(IRQ_DISK, false);
    }
    return value;
}

void virtio_blk_write(unsigned offset, unsigned size, u32 value) {
    (void)size; /* each register is written whole */
    switch (offset) {
    case GUEST_FEATURES:
        blk->guest_features = value & FEATURES;
        break;
    case QUEUE_PFN:
        if (blk->queue_select == 0) {
            blk->queue_pfn = value;
            blk->last_avail = blk->used_index = 0;
        }
        break;
    case QUEUE_SELECT:
        blk->queue_select = (u16)value;
        break;
    case QUEUE_NOTIFY:
        if ((u16)value == 0)
            notify();
        break;
    case STATUS:
        blk->status = (u8)value;
        if (!blk->status)
            virtio_blk_reset();
        break;
    default:
        break;
    }
}

void virtio_blk_reset(void) {
    *blk = (struct virtio_blk){0};
    i8259_set_irq(IRQ_DISK, false);
}
