/* The two i8259: masks, requests, priorities, nesting, the ways to end an interrupt, polling. */
#include "../guest.h"

enum {
    MASTER = 0x20,
    MASTER_DATA = 0x21,
    SLAVE = 0xa0,
    SLAVE_DATA = 0xa1,
    READ_IRR = 0x0a,
    READ_ISR = 0x0b,
    POLL = 0x0c,
    END = 0x20,
    END_SPECIFIC = 0x60,
    ROTATE_ON_END = 0xa0,
    SET_PRIORITY = 0xc0, /* the IRQ of the lowest priority in the low bits */
    SPECIAL_MASK = 0x68,
    NORMAL_MASK = 0x48,
};

static u8 irr(u16 port) {
    outb(port, READ_IRR);
    return inb(port);
}
static u8 isr(u16 port) {
    outb(port, READ_ISR);
    return inb(port);
}

/* Makes IRQ 0 pending: counter 0 in mode 0 raises its output once. */
static void raise_timer(void) {
    outb(0x43, 0x30);
    outb(0x40, 2);
    outb(0x40, 0);
    while (!(irr(MASTER) & 1))
        ;
}

/* Makes IRQ 4 pending: the UART's transmitter is empty. In loopback, so that printing is impossible till lowered. */
static void raise_uart(void) {
    while (!(inb(0x3fd) & 0x40))
        ;
    outb(0x3fc, 0x18);
    outb(0x3f9, 0);
    outb(0x3f9, 2);
    while (!(irr(MASTER) & 0x10))
        ;
}
static void lower_uart(void) {
    outb(0x3f9, 0);
    inb(0x3fa);
    outb(0x3fc, 0x0b);
}

/* Makes IRQ 8 pending: the clock's periodic interrupt. */
static u8 cmos(u8 index) {
    outb(0x70, index);
    return inb(0x71);
}
static void set_cmos(u8 index, u8 value) {
    outb(0x70, index);
    outb(0x71, value);
}
static void raise_clock(void) {
    set_cmos(0xa, 0x26);
    cmos(0xc);
    set_cmos(0xb, (u8)(cmos(0xb) | 0x40));
    while (!(irr(SLAVE) & 1))
        ;
}
static void lower_clock(void) {
    set_cmos(0xb, (u8)(cmos(0xb) & ~0x40));
    cmos(0xc);
}

static char order[40];
static u32 ordered;
static void record(char c) {
    if (ordered < sizeof order - 1)
        order[ordered++] = c;
    order[ordered] = 0;
}
static bool on_timer(struct frame *frame) {
    (void)frame;
    record('0');
    outb(MASTER, END);
    return true;
}
static bool on_uart(struct frame *frame) {
    (void)frame;
    record('4');
    lower_uart();
    outb(MASTER, END);
    return true;
}
static bool on_clock(struct frame *frame) {
    (void)frame;
    record('8');
    lower_clock();
    outb(SLAVE, END);
    outb(MASTER, END);
    return true;
}
static void hook_all(void) {
    hooks[IRQ_VECTOR] = on_timer;
    hooks[IRQ_VECTOR + 4] = on_uart;
    hooks[IRQ_VECTOR + 8] = on_clock;
    ordered = 0;
    order[0] = 0;
}
/* Lets through what is pending and not masked. */
static void let(u8 master, u8 slave) {
    outb(MASTER_DATA, master);
    outb(SLAVE_DATA, slave);
    sti();
    for (u32 i = 0; i < 8; i++)
        inb(0x3ff);
    cli();
    outb(MASTER_DATA, 0xff);
    outb(SLAVE_DATA, 0xff);
}

TEST(pic, masks) {
    static const u8 values[] = {0xff, 0xfe, 0x7f, 0xa5, 0xff};
    for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
        outb(MASTER_DATA, values[i]);
        outb(SLAVE_DATA, (u8)~values[i] | 1);
        u8 master = inb(MASTER_DATA), slave = inb(SLAVE_DATA);
        outb(MASTER_DATA, 0xff);
        outb(SLAVE_DATA, 0xff);
        say("%x %x", master, slave);
    }
}

TEST(pic, pending) {
    hook_all();
    raise_timer();
    say("irr %x isr %x while masked", irr(MASTER) & 0x11, isr(MASTER));
    let(0xff, 0xff);
    say("still masked: taken '%s'", order);
    let(0xfe, 0xff);
    say("unmasked: taken '%s', irr %x isr %x", order, irr(MASTER) & 1, isr(MASTER));
    let(0xfe, 0xff);
    say("once only: taken '%s'", order);
}

/* What is pending at once comes by priority: 0, then 8 through the cascade, then 4. */
TEST(pic, priorities) {
    hook_all();
    raise_clock();
    raise_timer();
    raise_uart();
    let(0xea, 0xfe);
    lower_uart();
    say("taken %s", order);
    outb(MASTER, SET_PRIORITY | 3); /* now 4 is the highest */
    ordered = 0;
    raise_clock();
    raise_timer();
    raise_uart();
    let(0xea, 0xfe);
    lower_uart();
    outb(MASTER, SET_PRIORITY | 7);
    say("with 3 the lowest: taken %s", order);
}

/* The slave's mask and the cascade's both count. */
TEST(pic, cascade) {
    hook_all();
    raise_clock();
    let(0xfb, 0xff);
    say("slave masked: '%s'", order);
    let(0xff, 0xfe);
    say("cascade masked: '%s'", order);
    let(0xfb, 0xfe);
    say("both open: '%s', isr %x %x", order, isr(MASTER), isr(SLAVE));
}

/* In a handler that lets interrupts in, a higher one nests and a lower one waits. */
static u8 isr_inside;
static bool nesting_uart(struct frame *frame) {
    (void)frame;
    record('4');
    lower_uart();
    raise_timer();
    sti();
    for (u32 i = 0; i < 8; i++)
        inb(0x3ff);
    cli();
    isr_inside = isr(MASTER);
    record('E');
    outb(MASTER, END);
    return true;
}
static bool nesting_timer(struct frame *frame) {
    (void)frame;
    record('0');
    raise_uart();
    sti();
    for (u32 i = 0; i < 8; i++)
        inb(0x3ff);
    cli();
    isr_inside = isr(MASTER);
    record('E');
    outb(MASTER, END);
    return true;
}
TEST(pic, nesting) {
    hook_all();
    hooks[IRQ_VECTOR + 4] = nesting_uart;
    raise_uart();
    let(0xee, 0xff);
    lower_uart();
    say("0 within 4: %s, isr inside %x", order, isr_inside);
    hook_all();
    hooks[IRQ_VECTOR] = nesting_timer;
    raise_timer();
    let(0xee, 0xff);
    lower_uart();
    say("4 after 0: %s, isr inside %x", order, isr_inside);
}

/* Without an end nothing of the same or a lower priority comes. */
static bool without_end(struct frame *frame) {
    (void)frame;
    record('0');
    return true;
}
TEST(pic, end_missing) {
    hook_all();
    hooks[IRQ_VECTOR] = without_end;
    raise_timer();
    let(0xee, 0xff);
    raise_uart();
    let(0xee, 0xff);
    lower_uart();
    u8 before = isr(MASTER);
    say("before the end: %s, isr %x", order, before);
    raise_uart();
    outb(MASTER, END);
    let(0xee, 0xff);
    lower_uart();
    say("after the end: %s, isr %x", order, isr(MASTER));
}

TEST(pic, specific_end) {
    hook_all();
    hooks[IRQ_VECTOR] = without_end;
    raise_timer();
    let(0xfe, 0xff);
    outb(MASTER, END_SPECIFIC | 4);
    u8 other = isr(MASTER);
    outb(MASTER, END_SPECIFIC | 0);
    say("end of 4: isr %x, end of 0: isr %x", other, isr(MASTER));
}

/* Rotation on end: what was served goes to the bottom. */
static bool rotating(struct frame *frame) {
    (void)frame;
    record('0');
    outb(MASTER, ROTATE_ON_END);
    return true;
}
TEST(pic, rotation) {
    hook_all();
    hooks[IRQ_VECTOR] = rotating;
    raise_timer();
    let(0xee, 0xff);
    raise_timer();
    raise_uart();
    let(0xee, 0xff);
    lower_uart();
    outb(MASTER, SET_PRIORITY | 7);
    say("%s", order);
}

/* In special mask mode a masked interrupt in service holds nothing back. */
TEST(pic, special_mask) {
    hook_all();
    hooks[IRQ_VECTOR] = without_end;
    raise_timer();
    let(0xfe, 0xff);
    outb(MASTER, SPECIAL_MASK);
    raise_uart();
    let(0xef, 0xff);
    lower_uart();
    outb(MASTER, NORMAL_MASK);
    outb(MASTER, END_SPECIFIC | 4);
    outb(MASTER, END_SPECIFIC | 0);
    say("%s, isr %x", order, isr(MASTER));
}

/* With automatic end the request is over as soon as it is taken. */
static u8 isr_in_handler;
static bool look_at_isr(struct frame *frame) {
    (void)frame;
    record('0');
    isr_in_handler = isr(MASTER);
    return true;
}
TEST(pic, automatic_end) {
    hook_all();
    hooks[IRQ_VECTOR] = look_at_isr;
    outb(MASTER, 0x11);
    outb(MASTER_DATA, IRQ_VECTOR);
    outb(MASTER_DATA, 4);
    outb(MASTER_DATA, 3);
    outb(MASTER_DATA, 0xff);
    raise_timer();
    let(0xfe, 0xff);
    raise_timer();
    let(0xfe, 0xff);
    say("%s, isr in the handler %x", order, isr_in_handler);
}

/* Another base, then back. */
static bool at_other_base(struct frame *frame) {
    record(frame->vector == 0x60 ? 'x' : '?');
    outb(MASTER, END);
    return true;
}
TEST(pic, base) {
    hook_all();
    hooks[0x60] = at_other_base;
    outb(MASTER, 0x11);
    outb(MASTER_DATA, 0x60);
    outb(MASTER_DATA, 4);
    outb(MASTER_DATA, 1);
    outb(MASTER_DATA, 0xff);
    raise_timer();
    let(0xfe, 0xff);
    say("%s", order);
}

/* Polling takes the interrupt instead of the processor. */
TEST(pic, poll) {
    hook_all();
    raise_timer();
    outb(MASTER_DATA, 0xfe);
    outb(MASTER, POLL);
    u8 first = inb(MASTER);
    u8 in_service = isr(MASTER);
    outb(MASTER, END);
    outb(MASTER, POLL);
    u8 second = inb(MASTER);
    outb(MASTER_DATA, 0xff);
    say("%x, isr %x, then %x", first, in_service, second & 0x80);
}
