/*
 * A device's registers in memory: virtio-blk's (virtio 1.1, 4.1.4), found as
 * PCI says. Without a disk there is nothing to test.
 */
#include "../accessors.h"
#include "../registers.h"

enum { CONFIG_ADDRESS = 0xcf8, CONFIG_DATA = 0xcfc, CONFIG_ENABLE = 1u << 31 };
enum { PCI_ID = 0x00, PCI_COMMAND = 0x04, PCI_CLASS = 0x08, PCI_BAR4 = 0x20, PCI_CAPABILITIES = 0x34, PCI_LINE = 0x3c };
enum { COMMAND_IO = 1, COMMAND_MEMORY = 2, COMMAND_MASTER = 4 };
enum { VIRTIO_BLK = 0x10011af4, VENDOR_CAPABILITY = 0x09, BAR_SIZE = 0x4000 };

/* Kinds of registers, by their capability's type. */
enum kind { COMMON = 1, NOTIFY = 2, ISR = 3, CONFIGURATION = 4 };

/* Offsets among the common ones (4.1.4.3). */
enum {
    DEVICE_FEATURE_SELECT = 0,
    DEVICE_FEATURE = 4,
    DRIVER_FEATURE_SELECT = 8,
    DRIVER_FEATURE = 12,
    NUM_QUEUES = 18,
    STATUS = 20,
    QUEUE_SELECT = 22,
    QUEUE_SIZE = 24,
    QUEUE_ENABLE = 28,
    QUEUE_NOTIFY_OFFSET = 30,
    QUEUE_ADDRESSES = 32, /* of descriptors, of what is available, of what is used: 64 bits each */
};

enum { ACKNOWLEDGE = 1, DRIVER = 2, DRIVER_OK = 4, FEATURES_OK = 8 };

/* Features that every device here has: SEG_MAX, BLK_SIZE, FLUSH; VERSION_1. */
static const u32 wanted_features[2] = {1u << 2 | 1u << 6 | 1u << 9, 1};

static u32 slot;
static u8 *registers[5]; /* by kind */

static u32 config_read(u32 at) {
    outl(CONFIG_ADDRESS, CONFIG_ENABLE | slot << 11 | at);
    return inl(CONFIG_DATA);
}
static void config_write(u32 at, u32 value) {
    outl(CONFIG_ADDRESS, CONFIG_ENABLE | slot << 11 | at);
    outl(CONFIG_DATA, value);
}

static bool find(void) {
    for (slot = 0; slot < 32; slot++)
        if (config_read(PCI_ID) == VIRTIO_BLK)
            return true;
    say("no disk");
    return false;
}

/* Puts BAR 4 into the window. */
static void map_registers(u32 bar) {
    for (u32 at = 0; at < BAR_SIZE; at += PAGE_SIZE)
        map(WINDOW + at, bar + at, PTE_P | PTE_W | PTE_PCD);
}

/* The registers of each kind, as the capabilities tell. */
static bool open(void) {
    if (!find())
        return false;
    config_write(PCI_COMMAND, COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER);
    map_registers(config_read(PCI_BAR4) & ~15u);
    for (u32 at = config_read(PCI_CAPABILITIES) & 0xff; at; at = config_read(at) >> 8 & 0xff) {
        u32 head = config_read(at), type = head >> 24;
        if ((head & 0xff) == VENDOR_CAPABILITY && type < ARRAY_SIZE(registers) && (config_read(at + 4) & 0xff) == 4)
            registers[type] = (u8 *)WINDOW + config_read(at + 8);
    }
    write8(registers[COMMON] + STATUS, 0);
    while (read8(registers[COMMON] + STATUS))
        ;
    return true;
}

TEST(device, found) {
    if (!find())
        return;
    say("in slot %u: class %x, line %u", slot, config_read(PCI_CLASS) >> 16, config_read(PCI_LINE) & 0xff);
    u32 bar = config_read(PCI_BAR4);
    config_write(PCI_COMMAND, 0);
    config_write(PCI_BAR4, ~0u);
    say("registers in memory: kind %x, mask %x, upper half %x", bar & 15, config_read(PCI_BAR4),
        config_read(PCI_BAR4 + 4));
    config_write(PCI_BAR4, bar);
    open();
    for (u32 kind = COMMON; kind <= CONFIGURATION; kind++)
        say("kind %u %s", kind, registers[kind] ? "there" : "missing");
}

/* The first register tells whether it is there. */
static void say_scratch(const char *where) {
    write32(registers[COMMON] + DEVICE_FEATURE_SELECT, 0xabcdef01);
    say("%s: %x", where, read32(registers[COMMON] + DEVICE_FEATURE_SELECT));
}

TEST(device, moved) {
    if (!open())
        return;
    u32 bar = config_read(PCI_BAR4);
    say_scratch("at first");
    config_write(PCI_BAR4, bar + 0x100000);
    map_registers((bar & ~15u) + 0x100000);
    say_scratch("moved");
    config_write(PCI_BAR4, bar);
    map_registers(bar & ~15u);
    say_scratch("back");
}

TEST(device, features) {
    if (!open())
        return;
    u8 *common = registers[COMMON];
    for (u32 i = 0; i < 4; i++) {
        put32(common + DEVICE_FEATURE_SELECT, i);
        u32 offered = get32(common + DEVICE_FEATURE);
        say("word %u: %x, selected %u", i, i < 2 ? offered & wanted_features[i] : offered,
            get32(common + DEVICE_FEATURE_SELECT));
    }
    for (u32 i = 0; i < 2; i++) {
        write32(common + DRIVER_FEATURE_SELECT, i);
        write32(common + DRIVER_FEATURE, wanted_features[i]);
    }
    for (u32 i = 0; i < 2; i++) {
        put32(common + DRIVER_FEATURE_SELECT, i);
        say("accepted %x", read32(common + DRIVER_FEATURE));
        and32(common + DRIVER_FEATURE, i ? 1 : 0x200);
        say("accepted %x", get32(common + DRIVER_FEATURE));
        or32(common + DRIVER_FEATURE, i ? 1 : 0x40);
        say("accepted %x", read32(common + DRIVER_FEATURE));
    }
}

/* As virtio 1.1, 3.1.1 wants it, but for the queues. */
static void accept(void) {
    u8 *common = registers[COMMON];
    write8(common + STATUS, ACKNOWLEDGE);
    or8(common + STATUS, DRIVER);
    for (u32 i = 0; i < 2; i++) {
        write32(common + DRIVER_FEATURE_SELECT, i);
        write32(common + DRIVER_FEATURE, wanted_features[i]);
    }
    or8(common + STATUS, FEATURES_OK);
}

TEST(device, status) {
    if (!open())
        return;
    u8 *common = registers[COMMON];
    say("reset %x", read8_wide(common + STATUS));
    accept();
    say("accepted %x", get8(common + STATUS));
    or8(common + STATUS, DRIVER_OK);
    say("running %x", read8(common + STATUS));
    u32 other_bits = 0x80;
    or8(common + STATUS, (u8)other_bits);
    and8(common + STATUS, 0x8f);
    say("failed %x", read8_wide(common + STATUS));
    put8(common + STATUS, 0);
    say("reset %x", get8(common + STATUS));
}

TEST(device, queues) {
    if (!open())
        return;
    u8 *common = registers[COMMON];
    accept();
    say("%u queues", read16(common + NUM_QUEUES));
    for (u32 i = 0; i < 3; i++) {
        put16(common + QUEUE_SELECT, (u16)i);
        say("%u: size %u, enabled %u", get16(common + QUEUE_SELECT), read16_wide(common + QUEUE_SIZE),
            read16(common + QUEUE_ENABLE));
    }
    write16(common + QUEUE_SELECT, 0);
    say("notified at %u", read16(common + QUEUE_NOTIFY_OFFSET));
    write16(common + QUEUE_SIZE, 64);
    say("size %u", get16(common + QUEUE_SIZE));
    or16(common + QUEUE_SELECT, 0x101);
    and16(common + QUEUE_SELECT, 0xff);
    say("selected %u, size %u", read16(common + QUEUE_SELECT), get16(common + QUEUE_SIZE));
    put16(common + QUEUE_SELECT, 0);
    /* Every register of an array, with an index that is scaled. */
    volatile u32 *addresses = (volatile u32 *)(common + QUEUE_ADDRESSES);
    for (u32 i = 0; i < 6; i++)
        write32(&addresses[i], i & 1 ? 0 : SCRATCH_FRAMES + i * 0x1000);
    for (u32 i = 6; i--;)
        say("address word %u: %x, %x", i, read32(&addresses[i]), get32(addresses + i));
}

TEST(device, configuration) {
    if (!open())
        return;
    u8 *at = registers[CONFIGURATION];
    say("capacity %x%X", read32(at + 4), read32(at));
    for (u32 i = 0; i < 8; i++)
        say("byte %u: %x %x", i, read8(at + i), get8(at + i));
    for (u32 i = 0; i < 4; i++)
        say("word %u: %x %x", i, read16((u16 *)at + i), read16_wide((u16 *)at + i));
    say("most segments %u, block size %u", get32(at + 12), read32(at + 20));
}

/* Addresses that the compiler knows, and those it computes. */
TEST(device, addresses) {
    if (!open())
        return;
    if (registers[COMMON] != (u8 *)WINDOW) {
        say("the common registers are not the first");
        return;
    }
    write32((void *)WINDOW, 0x1234567);
    say("absolute %x %x", read32((void *)WINDOW), get32((void *)WINDOW));
    put32((void *)WINDOW, 0x7654321);
    say("absolute %x %x", read32((void *)WINDOW), get32((void *)WINDOW));
    or16((void *)(WINDOW + QUEUE_SELECT), 0x180);
    say("absolute %x", read16_wide((void *)(WINDOW + QUEUE_SELECT)));
    volatile u32 *base = (volatile u32 *)(WINDOW - 0x1000);
    for (u32 i = 0x3fc; i < 0x400; i++) {
        asm volatile("" : "+r"(base), "+r"(i)); /* both in registers */
        write32(&base[i + 4], i);
        say("base and index %x %x", read32(&base[i + 4]), get32(&base[i + 4]));
    }
}

/* Forms that the annotator leaves alone: they trap, burned or not. */
TEST(device, strings) {
    if (!open())
        return;
    u32 words[6] = {0}, single, count = 2;
    const void *from = registers[CONFIGURATION];
    void *to = words;
    asm volatile("rep movsl" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    from = registers[CONFIGURATION];
    asm volatile("lodsl" : "=a"(single), "+S"(from));
    say("copied %x %x, %u left, loaded %x", words[0], words[1], count, single);
    from = registers[CONFIGURATION];
    to = words + 2;
    count = 4;
    asm volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
    to = registers[COMMON] + DEVICE_FEATURE_SELECT;
    asm volatile("stosl" : "+D"(to) : "a"(0x55aa55aa) : "memory");
    say("by bytes %x, stored %x, moved by %u", words[2], read32(registers[COMMON] + DEVICE_FEATURE_SELECT),
        (u32)to - (u32)registers[COMMON]);
}

static const struct {
    const char *name;
    u32 size;
    form_t *run;
} forms[] = {
#define X(name, size, statement) {#name, size, form_##name},
    FORMS
#undef X
};

/* A register of each size that keeps what is written to it, and values that it takes. */
static const struct {
    u32 at, value, eax, edx;
} places[] = {
    [1] = {STATUS, 0x41, 0x02, 0x0c03},
    [2] = {QUEUE_SELECT, 5, 3, 0x21},
    [4] = {DEVICE_FEATURE_SELECT, 0x80ff7f01, 0x80ff7f01, 0x1234aaaa},
};

static u32 defined(const char *name) {
    bool logic = memcmp(name, "and", 3) == 0 || memcmp(name, "or", 2) == 0 || memcmp(name, "xor", 3) == 0 ||
                 memcmp(name, "test", 4) == 0;
    return memcmp(name, "bt", 2) == 0 ? CF : logic ? ARITHMETIC & ~AF : ARITHMETIC;
}

TEST(device, forms) {
    if (!open())
        return;
    for (u32 i = 0; i < ARRAY_SIZE(forms); i++) {
        u32 size = forms[i].size;
        u8 *at = registers[COMMON] + places[size].at;
        struct access access = {.eax = places[size].eax, .edx = places[size].edx, .flags = FIXED | CF};
        switch (size) {
        case 1: write8(at, (u8)places[size].value); break;
        case 2: write16(at, (u16)places[size].value); break;
        default: write32(at, places[size].value);
        }
        forms[i].run(&access, at);
        u32 now = size == 1 ? read8(at) : size == 2 ? read16(at) : read32(at);
        say("%s: %x %x %x %f", forms[i].name, now, access.eax, access.edx, access.flags & defined(forms[i].name));
    }
}

/* --- Requests --- */

enum { TYPE_IN = 0, TYPE_OUT = 1, DESC_NEXT = 1, DESC_WRITE = 2, SIZE = 8, SECTOR = 512 };

struct descriptor {
    u64 address;
    u32 length;
    u16 flags, next;
};

static struct {
    struct descriptor descriptors[SIZE];
    struct {
        u16 flags, index, ring[SIZE];
    } available;
    struct {
        u16 flags, index;
        struct {
            u32 id, length;
        } ring[SIZE];
    } used __attribute__((aligned(4)));
    struct {
        u32 type, reserved;
        u64 sector;
    } header __attribute__((aligned(16)));
    u8 status;
    u32 data[2 * SECTOR / 4];
} ring __attribute__((aligned(4096)));

static void start_queue(void) {
    u8 *common = registers[COMMON];
    const u32 parts[] = {(u32)ring.descriptors, (u32)&ring.available, (u32)&ring.used};
    memset(&ring, 0, sizeof ring);
    accept();
    write16(common + QUEUE_SELECT, 0);
    write16(common + QUEUE_SIZE, SIZE);
    for (u32 i = 0; i < ARRAY_SIZE(parts); i++) {
        write32(common + QUEUE_ADDRESSES + 8 * i, parts[i]);
        write32(common + QUEUE_ADDRESSES + 8 * i + 4, 0);
    }
    put16(common + QUEUE_ENABLE, 1);
    or8(common + STATUS, DRIVER_OK);
}

/* Done when the device has raised its interrupt, which is after it has said so in the ring. */
static void request(const char *what, u32 type, u32 sector, u32 length) {
    u8 interrupt;
    ring.header.type = type;
    ring.header.sector = sector;
    ring.status = 0xff;
    ring.descriptors[0] = (struct descriptor){(u32)&ring.header, sizeof ring.header, DESC_NEXT, 1};
    ring.descriptors[1] =
        (struct descriptor){(u32)ring.data, length, DESC_NEXT | (type == TYPE_IN ? DESC_WRITE : 0), 2};
    ring.descriptors[2] = (struct descriptor){(u32)&ring.status, 1, DESC_WRITE, 0};
    ring.available.ring[ring.available.index % SIZE] = 0;
    asm volatile("" : : : "memory");
    ring.available.index++;
    write16(registers[NOTIFY], 0);
    while (!(interrupt = read8(registers[ISR])))
        ;
    asm volatile("" : : : "memory");
    say("%s: status %x, %u used, data %x %x %x, interrupt %x, then %x", what, ring.status, ring.used.index, ring.data[0],
        ring.data[1], ring.data[255], interrupt, get8(registers[ISR]));
}

TEST(device, requests) {
    if (!open())
        return;
    start_queue();
    request("read", TYPE_IN, 2, 2 * SECTOR);
    for (u32 i = 0; i < ARRAY_SIZE(ring.data); i++)
        ring.data[i] = i * 3;
    request("written", TYPE_OUT, 7, 2 * SECTOR);
    memset(ring.data, 0, sizeof ring.data);
    request("read again", TYPE_IN, 7, 2 * SECTOR);
    request("behind its end", TYPE_IN, 0x10000, SECTOR);
    write8(registers[COMMON] + STATUS, 0);
}
