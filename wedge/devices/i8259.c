/*
 * Two 8259A interrupt controllers, the slave on IR2 of the master (Intel
 * 8259A data sheet, order number 231468; ELCR: Intel 82371SB data sheet).
 *
 * An edge-triggered request is withdrawn when its line falls before the
 * processor has taken it, as the data sheet has it. INTR falls with it at
 * once, so only an acknowledge cycle without INTR is answered with the
 * spurious IR7.
 */

#include "internal.h"

enum {
    ICW1_IC4 = 1 << 0,
    ICW1_SNGL = 1 << 1,
    ICW1_LTIM = 1 << 3,
    ICW1 = 1 << 4,
    ICW4_AEOI = 1 << 1,
    ICW4_SFNM = 1 << 4,
    OCW3 = 1 << 3,
    OCW3_RIS = 1 << 0,
    OCW3_RR = 1 << 1,
    OCW3_POLL = 1 << 2,
    OCW3_SMM = 1 << 5,
    OCW3_ESMM = 1 << 6,
};

enum { NONE = 8, SPURIOUS = 7 };

static struct i8259 *const pics = machine_devices.i8259;
#define master (&pics[0])
#define slave (&pics[1])

static struct i8259 *pic_at(u16 port) { return port & 0x80 ? slave : master; }

static u8 level_triggered(const struct i8259 *pic) { return pic->icw1 & ICW1_LTIM ? 0xff : pic->elcr; }

/* Rank of the most urgent of several inputs: 0 the highest, NONE if there is none. */
static unsigned rank(const struct i8259 *pic, u8 inputs) {
    u32 rotated = ((inputs | (u32)inputs << 8) >> pic->highest) & 0xff;
    return rotated ? (unsigned)__builtin_ctz(rotated) : NONE;
}

static unsigned input_of(const struct i8259 *pic, unsigned ranked) { return (ranked + pic->highest) & 7; }

/* The input whose request the controller would signal now, or NONE. */
static unsigned request(const struct i8259 *pic) {
    u8 in_service = pic->special_mask ? pic->isr & ~pic->imr : pic->isr;
    unsigned requested = rank(pic, pic->irr & ~pic->imr);
    unsigned served = rank(pic, in_service);
    if (requested == NONE)
        return NONE;
    unsigned input = input_of(pic, requested);
    /* Special fully nested mode: the slave may interrupt its own service. */
    bool nested = pic == master && input == IRQ_CASCADE && pic->icw4 & ICW4_SFNM;
    return requested < served || (nested && requested == served) ? input : NONE;
}

static void set_line(struct i8259 *pic, unsigned input, bool level) {
    u8 bit = (u8)(1 << input);
    if (!level) {
        pic->lines &= (u8)~bit;
        pic->irr &= (u8)~bit;
    } else {
        if (!(pic->lines & bit) || level_triggered(pic) & bit)
            pic->irr |= bit;
        pic->lines |= bit;
    }
}

/* Brings both INT outputs up to date. */
static void settle(void) {
    slave->intr = request(slave) != NONE;
    set_line(master, IRQ_CASCADE, slave->intr);
    master->intr = request(master) != NONE;
}

void i8259_set_irq(enum irq irq, bool level) {
    set_line(&pics[irq >> 3], irq & 7, level);
    settle();
}

/* The controller's half of an acknowledge cycle or poll. */
static void acknowledge(struct i8259 *pic, unsigned input) {
    u8 bit = (u8)(1 << input);
    if (!(pic->icw4 & ICW4_AEOI))
        pic->isr |= bit;
    else if (pic->rotate)
        pic->highest = (input + 1) & 7;
    if (!(level_triggered(pic) & bit))
        pic->irr &= (u8)~bit;
    if (pic == slave)
        set_line(master, IRQ_CASCADE, false); /* INT falls, so that what comes next is an edge */
    else if (input == IRQ_TIMER)
        i8254_acknowledged();
}

u8 devices_interrupt_acknowledge(void) {
    unsigned input = request(master);
    u8 vector = (u8)(master->icw2 + (input == NONE ? SPURIOUS : input));
    if (input != NONE)
        acknowledge(master, input);
    if (input == IRQ_CASCADE) {
        input = request(slave);
        vector = (u8)(slave->icw2 + (input == NONE ? SPURIOUS : input));
        if (input != NONE)
            acknowledge(slave, input);
    }
    settle();
    return vector;
}

static void write_icw1(struct i8259 *pic, u8 value) {
    pic->icw1 = value;
    pic->icw4 = 0;
    pic->irr = pic->lines & level_triggered(pic); /* an edge must come anew */
    pic->isr = 0;
    pic->imr = 0;
    pic->highest = 0;
    pic->special_mask = 0;
    pic->rotate = 0;
    pic->read_isr = 0;
    pic->poll = 0;
    pic->awaited = 2;
}

static void write_icw(struct i8259 *pic, u8 value) {
    switch (pic->awaited) {
    case 2:
        pic->icw2 = value & 0xf8;
        pic->awaited = !(pic->icw1 & ICW1_SNGL) ? 3 : pic->icw1 & ICW1_IC4 ? 4 : 0;
        break;
    case 3: /* how they are cascaded: the board's wiring, not a choice */
        pic->awaited = pic->icw1 & ICW1_IC4 ? 4 : 0;
        break;
    default:
        pic->icw4 = value;
        pic->awaited = 0;
    }
}

/* OCW2: bits 7 to 5 are rotate, specific, EOI. */
static void write_ocw2(struct i8259 *pic, u8 value) {
    bool rotate = value & 0x80, specific = value & 0x40, eoi = value & 0x20;
    if (!eoi && !specific) {
        pic->rotate = rotate;
        return;
    }
    unsigned input = value & 7;
    if (!specific) {
        /* In special mask mode a masked level does not count (data sheet, "End of Interrupt"). */
        unsigned served = rank(pic, pic->special_mask ? pic->isr & ~pic->imr : pic->isr);
        if (served == NONE)
            return;
        input = input_of(pic, served);
    }
    if (eoi)
        pic->isr &= (u8)~(1 << input);
    if (rotate)
        pic->highest = (input + 1) & 7;
}

static void write_ocw3(struct i8259 *pic, u8 value) {
    if (value & OCW3_POLL)
        pic->poll = 1;
    if (value & OCW3_RR)
        pic->read_isr = value & OCW3_RIS;
    if (value & OCW3_ESMM)
        pic->special_mask = !!(value & OCW3_SMM);
}

/* Ticks count as missed only where the guest could have taken them: so bring the timer up to date first. */
static void write_imr(struct i8259 *pic, u8 value) {
    if (pic == slave || !((pic->imr ^ value) & 1 << IRQ_TIMER)) {
        pic->imr = value;
        return;
    }
    u64 now = port_time();
    i8254_run(now);
    pic->imr = value;
    i8254_run(now);
}

void i8259_write(u16 port, u8 value) {
    struct i8259 *pic = pic_at(port);
    if (port & 1) {
        if (pic->awaited)
            write_icw(pic, value);
        else
            write_imr(pic, value);
    } else if (value & ICW1) {
        write_icw1(pic, value);
    } else if (value & OCW3) {
        write_ocw3(pic, value);
    } else {
        write_ocw2(pic, value);
    }
    settle();
}

u8 i8259_read(u16 port) {
    struct i8259 *pic = pic_at(port);
    if (!pic->poll && port & 1)
        return pic->imr;
    devices_run(port_time()); /* requests become visible on time even if the processor takes none */
    if (!pic->poll)
        return pic->read_isr ? pic->isr : pic->irr;
    pic->poll = 0;
    unsigned input = request(pic);
    if (input == NONE)
        return 0;
    acknowledge(pic, input);
    settle();
    return (u8)(0x80 | input);
}

/* IR0, 1, 2, 8 and 13 are always edge-triggered. */
static u8 elcr_writable(u16 port) { return port & 1 ? 0xde : 0xf8; }

u8 elcr_read(u16 port) { return pics[port & 1].elcr; }

void elcr_write(u16 port, u8 value) {
    struct i8259 *pic = &pics[port & 1];
    pic->elcr = value & elcr_writable(port);
    u8 level = level_triggered(pic);
    pic->irr = (u8)((pic->irr & ~level) | (pic->lines & level));
    settle();
}

/* The firmware's vectors, PCI interrupts level-triggered, everything masked. The timer's OUT is already high. */
void i8259_reset(void) {
    enum { ICW4_8086 = 1 };
    const struct i8259 initialized = {.imr = 0xff, .icw1 = ICW1 | ICW1_IC4, .icw4 = ICW4_8086};
    *master = *slave = initialized;
    master->icw2 = 0x08;
    master->lines = 1 << IRQ_TIMER;
    slave->icw2 = 0x70;
    slave->elcr = 0x0c;
}
