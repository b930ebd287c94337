/* ins and outs with rep: a fault in the middle keeps the progress, and the rest is done after it. */
#include "../guest.h"

static u32 faults, ecx_at_fault, pointer_at_fault;
static const struct code *current;
static bool at_start;
static bool supply(struct frame *frame_) {
    u32 address = read_cr2() & ~(PAGE_SIZE - 1);
    if (address < WINDOW || address >= WINDOW + 4 * PAGE_SIZE)
        return false;
    faults++;
    ecx_at_fault = frame_->ecx;
    pointer_at_fault = current >= &codes[CODE_outsb] ? frame_->esi : frame_->edi;
    at_start = place(current, frame_->eip)[0] == 's';
    map(address, frame((address - WINDOW) / PAGE_SIZE), PTE_P | PTE_W | PTE_U);
    return true;
}

static void across(enum code_id id, bool user, u32 eflags, u32 offset) {
    const struct code *code = current = &codes[id];
    hooks[14] = supply;
    for (u32 i = 0; i < 3; i++)
        memset((void *)frame(i), 0x30 + (int)i, PAGE_SIZE);
    map(WINDOW + PAGE_SIZE, frame(1), PTE_P | PTE_W | PTE_U);
    unmap(WINDOW);
    unmap(WINDOW + 2 * PAGE_SIZE);
    outb(0x3ff, 0x77);
    struct regs in = inputs(code);
    in.eflags = FIXED | eflags | (user ? IOPL : 0);
    bool out = id >= CODE_outsb;
    *(out ? &in.esi : &in.edi) = WINDOW + PAGE_SIZE + offset;
    faults = ecx_at_fault = pointer_at_fault = 0;
    at_start = true;
    (user ? run_user : run)(code, &in);
    say_open();
    print("%s %s%s: ", user ? "user" : "kernel", code->name, eflags & DF ? " down" : "");
    print_outcome(code);
    print_changes(code, &in);
    print(", %u faults at %s with ecx %x pointer %x", faults, at_start ? "start" : "elsewhere", ecx_at_fault,
          pointer_at_fault);
    if (out)
        print(", scratch register %x\n", inb(0x3ff));
    else {
        u32 changed = 0;
        for (u32 page = 0; page < 3; page++)
            for (u32 i = 0; i < PAGE_SIZE; i++)
                changed += ((u8 *)frame(page))[i] != 0x30 + page;
        print(", %u bytes changed\n", changed);
    }
}

static void all(bool user) {
    across(CODE_rep_insb, user, 0, 0x10);
    across(CODE_rep_insb, user, 0, PAGE_SIZE - 5);
    across(CODE_rep_insb, user, DF, 4);
    across(CODE_rep_insw, user, 0, PAGE_SIZE - 5);
    across(CODE_rep_insl, user, 0, PAGE_SIZE - 6);
    across(CODE_rep_outsb, user, 0, 0x10);
    across(CODE_rep_outsb, user, 0, PAGE_SIZE - 5);
    across(CODE_rep_outsb, user, DF, 4);
    across(CODE_rep_outsw, user, 0, PAGE_SIZE - 5);
    across(CODE_rep_outsl, user, 0, PAGE_SIZE - 6);
}
TEST(string, kernel) { all(false); }
TEST(string, user) { all(true); }

TEST(string, zero) {
    static const enum code_id ids[] = {CODE_rep_insb, CODE_rep_outsb};
    for (u32 i = 0; i < ARRAY_SIZE(ids); i++) {
        struct regs in = inputs(&codes[ids[i]]);
        in.ecx = 0;
        in.esi = in.edi = WINDOW; /* not mapped, and not touched */
        run(&codes[ids[i]], &in);
        say_open();
        print("%s: ", codes[ids[i]].name);
        print_outcome(&codes[ids[i]]);
        print_changes(&codes[ids[i]], &in);
        print("\n");
    }
}

/* The I/O permission bitmap lets user code at single ports. */
TEST(string, port_bitmap) {
    tss.bitmap_offset = (u16)((u32)tss.bitmap - (u32)&tss);
    static const enum code_id ids[] = {CODE_inb, CODE_outb, CODE_inw, CODE_inl, CODE_inb_immediate};
    for (u32 allowed = 0; allowed < 2; allowed++) {
        if (allowed) {
            tss.bitmap[0x3ff / 8] &= (u8)~0x80;
            tss.bitmap[0x5000 / 8] &= (u8)~0x03; /* two ports: a word, not a long */
        }
        for (u32 i = 0; i < ARRAY_SIZE(ids); i++) {
            struct regs in = prepare_user(&codes[ids[i]]);
            run_user(&codes[ids[i]], &in);
            say_result(&codes[ids[i]], &in, allowed ? "some ports allowed: " : "none allowed: ");
        }
    }
}
