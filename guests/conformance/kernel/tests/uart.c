/* The 16550 at 3f8: scratch register, divisor, loopback, and what it interrupts for. */
#include "../guest.h"

enum {
    DATA = 0x3f8,
    INTERRUPT_ENABLE = 0x3f9,
    IDENTIFICATION = 0x3fa, /* and FIFO control */
    LINE_CONTROL = 0x3fb,
    MODEM_CONTROL = 0x3fc,
    LINE_STATUS = 0x3fd,
    MODEM_STATUS = 0x3fe,
    SCRATCH = 0x3ff,
    LOOPBACK = 0x10,
    OUT2 = 8,
    DLAB = 0x80,
};

/* Nothing may be printed between these two. */
static void begin(u8 modem_control) {
    while (!(inb(LINE_STATUS) & 0x40))
        ;
    outb(MODEM_CONTROL, LOOPBACK | modem_control);
}
static void end(void) {
    outb(INTERRUPT_ENABLE, 0);
    while (inb(LINE_STATUS) & 1)
        inb(DATA);
    outb(MODEM_CONTROL, 0x0b);
}

TEST(uart, scratch) {
    static const u8 values[] = {0, 0xff, 0x5a, 0xa5};
    for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
        outb(SCRATCH, values[i]);
        say("%x: %x", values[i], inb(SCRATCH));
    }
}

TEST(uart, divisor) {
    u8 control = inb(LINE_CONTROL);
    outb(LINE_CONTROL, control | DLAB);
    u8 low = inb(DATA), high = inb(INTERRUPT_ENABLE);
    outb(DATA, 0x34);
    outb(INTERRUPT_ENABLE, 0x12);
    u8 new_low = inb(DATA), new_high = inb(INTERRUPT_ENABLE);
    outb(DATA, low);
    outb(INTERRUPT_ENABLE, high);
    outb(LINE_CONTROL, control);
    outb(INTERRUPT_ENABLE, 0);
    u8 enabled = inb(INTERRUPT_ENABLE);
    say("%x %x, and behind it %x", new_low, new_high, enabled);
}

TEST(uart, line_control) {
    u8 control = inb(LINE_CONTROL);
    outb(LINE_CONTROL, 0x1b);
    u8 seen = inb(LINE_CONTROL);
    outb(LINE_CONTROL, control);
    say("%x", seen);
}

/* In loopback the modem's outputs come back as its inputs. */
TEST(uart, modem_loopback) {
    static const u8 outputs[] = {0, 1, 2, 4, 8, 0xf};
    u8 seen[ARRAY_SIZE(outputs)];
    begin(0);
    for (u32 i = 0; i < ARRAY_SIZE(outputs); i++) {
        outb(MODEM_CONTROL, LOOPBACK | outputs[i]);
        seen[i] = inb(MODEM_STATUS) & 0xf0;
    }
    end();
    for (u32 i = 0; i < ARRAY_SIZE(outputs); i++)
        say("%x: %x", outputs[i], seen[i]);
}

static u8 wait_data(void) {
    for (u32 i = 0; i < 10000000; i++)
        if (inb(LINE_STATUS) & 1)
            return inb(DATA);
    return 0xee;
}

TEST(uart, data_loopback) {
    static const u8 bytes[] = {0x41, 0, 0xff, 0x7e};
    u8 seen[ARRAY_SIZE(bytes)], before, after;
    outb(IDENTIFICATION, 0);
    begin(0);
    before = inb(LINE_STATUS) & 0x61;
    for (u32 i = 0; i < ARRAY_SIZE(bytes); i++) {
        outb(DATA, bytes[i]);
        seen[i] = wait_data();
    }
    after = inb(LINE_STATUS) & 0x61;
    end();
    for (u32 i = 0; i < ARRAY_SIZE(bytes); i++)
        say("%x: %x", bytes[i], seen[i]);
    say("line status before %x after %x", before, after);
}

static volatile u32 interrupts;
static u8 identified;
static bool on_interrupt(struct frame *frame) {
    (void)frame;
    interrupts++;
    identified = inb(IDENTIFICATION);
    outb(INTERRUPT_ENABLE, 0);
    outb(0x20, 0x20);
    return true;
}

static void wait_interrupt(void) {
    outb(0x21, 0xef);
    sti();
    for (u32 i = 0; i < 1000000 && !interrupts; i++)
        asm volatile("" : : : "memory");
    for (u32 i = 0; i < 100; i++)
        inb(LINE_STATUS);
    cli();
    outb(0x21, 0xff);
}

/* IIR without an interrupt, for an empty transmitter, and for a byte received. */
TEST(uart, interrupts) {
    hooks[IRQ_VECTOR + 4] = on_interrupt;
    outb(IDENTIFICATION, 0);
    u8 none, empty, byte;
    begin(OUT2);
    interrupts = 0;
    none = inb(IDENTIFICATION) & 0xf;
    wait_interrupt();
    u32 idle = interrupts;
    outb(INTERRUPT_ENABLE, 2);
    wait_interrupt();
    u32 at_empty = interrupts;
    empty = identified & 0xf;
    interrupts = 0;
    outb(DATA, 0x55);
    while (!(inb(LINE_STATUS) & 1))
        ;
    outb(INTERRUPT_ENABLE, 1);
    wait_interrupt();
    u32 at_byte = interrupts;
    byte = identified & 0xf;
    u8 data = inb(DATA);
    end();
    say("none: iir %x, %u taken", none, idle);
    say("transmitter empty: iir %x, %u taken", empty, at_empty);
    say("byte received: iir %x, %u taken, byte %x", byte, at_byte, data);
}

/* The FIFO shows in the two top bits of IIR. */
TEST(uart, fifo) {
    u8 with, without;
    begin(0);
    outb(IDENTIFICATION, 7);
    with = inb(IDENTIFICATION) & 0xc0;
    outb(IDENTIFICATION, 0);
    without = inb(IDENTIFICATION) & 0xc0;
    end();
    say("on %x off %x", with, without);
}
