/* The MC146818: time that could be one, its registers, its periodic interrupt. */
#include "../guest.h"

static u8 cmos(u8 index) {
    outb(0x70, index);
    return inb(0x71);
}
static void set_cmos(u8 index, u8 value) {
    outb(0x70, index);
    outb(0x71, value);
}

TEST(rtc, registers) {
    say("a %x, b %x, valid %x", cmos(0xa) & 0x7f, cmos(0xb) & 0x7f, cmos(0xd) & 0x80);
}

/* Between two updates all fields are binary-coded decimal and in range. */
TEST(rtc, time) {
    static const struct {
        const char *name;
        u8 index, lowest, highest;
    } fields[] = {{"second", 0, 0, 0x59}, {"minute", 2, 0, 0x59}, {"hour", 4, 0, 0x23},
                  {"weekday", 6, 1, 7},   {"day", 7, 1, 0x31},    {"month", 8, 1, 0x12},
                  {"year", 9, 0x20, 0x99}, {"century", 0x32, 0x20, 0x21}};
    while (cmos(0xa) & 0x80)
        ;
    for (u32 i = 0; i < ARRAY_SIZE(fields); i++) {
        u8 value = cmos(fields[i].index);
        bool decimal = (value & 0xf) <= 9 && value >> 4 <= 9;
        say("%s %s", fields[i].name,
            decimal && value >= fields[i].lowest && value <= fields[i].highest ? "could be one" : "is none");
    }
}

/* The second changes within some while of polling, in steps of one: unless the host stands still for one. */
static bool comes_next(void) {
    u8 first = cmos(0);
    u32 polls = 0;
    while (cmos(0) == first && polls < 100000000)
        polls++;
    u8 second = cmos(0);
    u8 next = first == 0x59 ? 0 : (first & 0xf) == 9 ? (u8)(first + 7) : (u8)(first + 1);
    return second == next;
}
TEST(rtc, runs) {
    enum { TRIES = 5 };
    u32 tries = 0;
    while (!comes_next() && tries < TRIES)
        tries++;
    say("next second %s", tries < TRIES ? "yes" : "no");
}

/* Memory that the clock does not use. */
TEST(rtc, memory) {
    u8 saved = cmos(0x60);
    set_cmos(0x60, 0x5a);
    u8 first = cmos(0x60);
    set_cmos(0x60, 0xa5);
    u8 second = cmos(0x60);
    set_cmos(0x60, saved);
    say("%x %x", first, second);
}

static volatile u32 ticks;
static volatile u8 causes;
static bool on_clock(struct frame *frame) {
    (void)frame;
    ticks++;
    causes |= cmos(0xc);
    outb(0xa0, 0x20);
    outb(0x20, 0x20);
    return true;
}
TEST(rtc, periodic) {
    hooks[IRQ_VECTOR + 8] = on_clock;
    ticks = causes = 0;
    set_cmos(0xa, 0x26);
    cmos(0xc);
    set_cmos(0xb, (u8)(cmos(0xb) | 0x40));
    outb(0x21, 0xfb);
    outb(0xa1, 0xfe);
    sti();
    u32 waited = 0;
    while (ticks < 5 && waited++ < 1000000000)
        ;
    cli();
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    set_cmos(0xb, (u8)(cmos(0xb) & ~0x40));
    say("five ticks %s, register c %x, then %x", ticks >= 5 ? "yes" : "no", causes & 0xc0, cmos(0xc) & 0x80);
}

/* The update-in-progress bit is seen some time, and goes away again. */
TEST(rtc, update) {
    u32 polls = 0;
    while (!(cmos(0xa) & 0x80) && polls < 100000000)
        polls++;
    bool seen = polls < 100000000;
    polls = 0;
    while (cmos(0xa) & 0x80 && polls < 100000000)
        polls++;
    say("seen %s, gone %s", seen ? "yes" : "no", polls < 100000000 ? "yes" : "no");
}
