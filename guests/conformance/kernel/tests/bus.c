/* PCI configuration space, and ports behind which there is nothing. */
#include "../guest.h"

enum { ADDRESS = 0xcf8, DATA = 0xcfc, ENABLE = 1u << 31 };

static u32 read_config(u32 device, u32 reg) {
    outl(ADDRESS, ENABLE | device << 11 | reg);
    return inl(DATA);
}

TEST(bus, address_register) {
    outl(ADDRESS, ENABLE | 0x1234);
    say("%x", inl(ADDRESS));
    outl(ADDRESS, 0);
}

TEST(bus, host_bridge) {
    u32 id = read_config(0, 0);
    say("vendor %s, class %x", (id & 0xffff) != 0xffff ? "present" : "absent", read_config(0, 8) >> 16);
    outl(ADDRESS, ENABLE);
    say("by bytes and words %s",
        (inb(DATA) | inb(DATA + 1) << 8) == (int)(id & 0xffff) ? "the same" : "different");
}

TEST(bus, absent_device) {
    say("%x", read_config(29, 0));
    outl(ADDRESS, ENABLE | 5u << 16);
    say("on another bus %x", inl(DATA));
}

TEST(bus, absent_ports) {
    static const u16 ports[] = {0x2a0, 0x5000, 0x9000, 0xe000};
    for (u32 i = 0; i < ARRAY_SIZE(ports); i++) {
        u16 word;
        asm volatile("inw %1, %0" : "=a"(word) : "Nd"(ports[i]));
        say("%x: %x %x %x", ports[i], inb(ports[i]), word, inl(ports[i]));
    }
}
