/* The i8254: modes 0, 2 and 3, latching, reading back. Only what no speed changes is printed. */
#include "../guest.h"

enum { CONTROL = 0x43, GATE = 0x61 };

static void start(u32 counter, u32 mode, u32 count) {
    outb(CONTROL, (u8)(counter << 6 | 0x30 | mode << 1));
    outb((u16)(0x40 + counter), (u8)count);
    outb((u16)(0x40 + counter), (u8)(count >> 8));
}
static u32 latch(u32 counter) {
    outb(CONTROL, (u8)(counter << 6));
    u32 low = inb((u16)(0x40 + counter));
    return low | (u32)inb((u16)(0x40 + counter)) << 8;
}
static u8 status(u32 counter) {
    outb(CONTROL, (u8)(0xe0 | 2 << counter));
    return inb((u16)(0x40 + counter));
}
static void gate(bool on) { outb(GATE, (u8)((inb(GATE) & ~3) | on)); }
static bool output2(void) { return inb(GATE) >> 5 & 1; }

TEST(pit, status) {
    for (u32 mode = 0; mode < 6; mode++) {
        gate(true);
        start(2, mode, 0x1234);
        say("mode %u: %x", mode, status(2) & 0x3f);
    }
}

/*
 * Whoever runs the machine may be late at any time: what happens within
 * microseconds is tried till it is seen.
 */
enum { TRIES = 50 };

static bool low_then_counting(void) {
    start(2, 0, 2000);
    u32 first = latch(2), second = latch(2);
    return !output2() && first <= 2000 && second <= first;
}
TEST(pit, mode0) {
    gate(true);
    u32 tries = 0;
    while (!low_then_counting() && tries < TRIES)
        tries++;
    u32 rounds = 0;
    while (!output2() && rounds < 10000000)
        rounds++;
    say("output low and counting down %s, output after the end %u", tries < TRIES ? "yes" : "no", output2());
}

/* Modes 2 and 3 go round: no value read is above the count. Some emulators show zero too. */
static void rounds(u32 mode, u32 count) {
    gate(true);
    start(2, mode, count);
    u32 outside = 0, turns = 0, odd = 0, last = count;
    while (!(status(2) & 0x40) && turns++ < 1000)
        ;
    turns = 0;
    for (u32 i = 0; i < 20000000 && turns < 3; i++) {
        u32 now = latch(2);
        outside += now > count;
        odd += now & 1;
        turns += now > last;
        last = now;
    }
    say("mode %u, count %u: outside %u, went round %s, odd values %s", mode, count, outside,
        turns >= 3 ? "yes" : "no", mode == 3 ? odd ? "yes" : "no" : "-");
}
TEST(pit, mode2) {
    rounds(2, 1000);
    rounds(2, 20000);
}
TEST(pit, mode3) {
    rounds(3, 1000);
    rounds(3, 20000);
}

/* A latched count stays till it is read, whatever the counter does. */
TEST(pit, latch) {
    gate(true);
    start(2, 2, 50000);
    outb(CONTROL, 0x80);
    outb(CONTROL, 0x80);
    u32 low = inb(0x42);
    for (u32 i = 0; i < 1000; i++)
        inb(GATE);
    u32 value = low | (u32)inb(0x42) << 8;
    say("within the count %s", value <= 50000 ? "yes" : "no");
}

/* Single bytes: only the low or the high half is written and read. */
static bool half(u8 control, u8 value) {
    outb(CONTROL, control);
    outb(0x42, value);
    return inb(0x42) <= value;
}
TEST(pit, halves) {
    gate(true);
    u32 low = 0, high = 0;
    while (!half(0x90, 0x55) && low < TRIES)
        low++;
    while (!half(0xa0, 0x12) && high < TRIES)
        high++;
    say("low %s, high %s", low < TRIES ? "right" : "wrong", high < TRIES ? "right" : "wrong");
}

static volatile u32 ticks;
static bool on_tick(struct frame *frame) {
    (void)frame;
    ticks++;
    outb(0x20, 0x20);
    return true;
}

/* Counter 0 interrupts at the rate it is set to, measured by counter 2. */
static bool measure(u32 mode, u32 count) {
    hooks[IRQ_VECTOR] = on_tick;
    gate(true);
    start(2, 0, 0xffff);
    start(0, mode, count);
    ticks = 0;
    outb(0x21, 0xfe);
    sti();
    while (ticks < 1)
        ;
    u32 begin = latch(2);
    while (ticks < 11)
        ;
    u32 end = latch(2);
    cli();
    outb(0x21, 0xff);
    start(0, 0, 0);
    u32 taken = begin - end;
    return taken > 8 * count && taken < 12 * count;
}

static void rate(u32 mode, u32 count) {
    u32 tries = 0;
    while (tries < TRIES && !measure(mode, count))
        tries++;
    say("mode %u: ten ticks took ten times the count, within a fifth: %s", mode, tries < TRIES ? "yes" : "no");
    note("%u tries failed", tries);
}
TEST(pit, rate) {
    rate(2, 5000);
    rate(3, 5000);
}

/* Mode 0 interrupts once. On a busy host an emulator may come to it late. */
TEST(pit, one_shot) {
    enum { LATEST = 50 };
    hooks[IRQ_VECTOR] = on_tick;
    ticks = 0;
    outb(0x21, 0xfe);
    sti();
    start(0, 0, 1000);
    gate(true);
    for (u32 waits = 0; waits < 2 || (!ticks && waits < LATEST); waits++) {
        start(2, 0, 20000);
        while (!output2())
            ;
    }
    cli();
    outb(0x21, 0xff);
    say("%u", ticks);
}
