/*
 * The interrupt shadow: a pending interrupt is taken after the instruction that
 * follows sti or a load of SS, not before it, and right after anything else
 * that sets IF.
 */
#include "../guest.h"

enum { COUNTER = 0x40, PIT_CONTROL = 0x43, PIC = 0x20, PIC_MASK = 0x21 };

static u32 taken_at;
static u32 taken;
static bool take(struct frame *frame) {
    taken_at = frame->eip;
    taken++;
    outb(PIC, 0x20);
    outb(PIC_MASK, 0xff);
    return true;
}

/* Makes IRQ 0 pending while interrupts are off. */
static void make_pending(void) {
    hooks[IRQ_VECTOR] = take;
    taken = 0;
    outb(PIT_CONTROL, 0x30); /* counter 0, both bytes, mode 0: one rising edge */
    outb(COUNTER, 2);
    outb(COUNTER, 0);
    outb(PIC, 0x0a); /* reads of the command port give IRR */
    while (!(inb(PIC) & 1))
        ;
    outb(PIC_MASK, 0xfe);
}

static void with_pending(enum code_id id) {
    const struct code *code = &codes[id];
    make_pending();
    struct regs in = prepare(code);
    in.eflags = FIXED;
    run(code, &in);
    outb(PIC_MASK, 0xff);
    say_open();
    print("%s: ", code->name);
    print_outcome(code);
    print(", taken %u times", taken);
    if (taken) {
        print(" at ");
        print_place(code, taken_at);
    }
    print("\n");
}

TEST(shadow, sti) {
    with_pending(CODE_sti_nops);
    with_pending(CODE_sti_sti);
    with_pending(CODE_sti_cli);
    with_pending(CODE_sti_hlt);
    with_pending(CODE_sti_pushf);
    with_pending(CODE_sti_out);
}
TEST(shadow, popf) { with_pending(CODE_popf_nops); }
TEST(shadow, iret) { with_pending(CODE_iret_nops); }
TEST(shadow, never) { with_pending(CODE_cli); }

/* hlt with nothing pending waits for the timer, and goes on behind itself. */
TEST(shadow, halt) {
    for (u32 i = 0; i < 3; i++) {
        hooks[IRQ_VECTOR] = take;
        taken = 0;
        outb(PIC_MASK, 0xfe);
        outb(PIT_CONTROL, 0x30);
        outb(COUNTER, 0);
        outb(COUNTER, 0x10); /* 3.4 ms */
        struct regs in = prepare(&codes[CODE_sti_hlt]);
        run(&codes[CODE_sti_hlt], &in);
        outb(PIC_MASK, 0xff);
        say_open();
        print("taken %u times at ", taken);
        print_place(&codes[CODE_sti_hlt], taken_at);
        print("\n");
    }
}
