/* Hardware breakpoints and alignment checks: what a target may have to refuse. */
#include "../guest.h"

static u32 hits, status, address;
static bool on_debug(struct frame *frame) {
    u32 value;
    asm volatile("mov %%db6, %0; mov %1, %%db6" : "=&r"(value) : "r"(0xffff0ff0));
    hits++;
    status |= value & 0xe00f;
    address = frame->eip;
    frame->eflags |= RF; /* once is enough for an instruction breakpoint */
    return true;
}

static void with_breakpoint(enum code_id id, u32 at, u32 control, bool user, const char *what) {
    hooks[1] = on_debug;
    hits = status = 0;
    struct regs in = inputs(&codes[id]);
    in.esi = USER_DATA;
    asm volatile("mov %0, %%db0; mov %1, %%db7" : : "r"(at), "r"(control));
    (user ? run_user : run)(&codes[id], &in);
    asm volatile("mov %0, %%db7" : : "r"(0x400));
    say_open();
    print("%s %s: ", what, user ? "user" : "kernel");
    print_outcome(&codes[id]);
    print(", %u hits", hits);
    if (hits) {
        print(" at ");
        print_place(&codes[id], address);
        print(", dr6 %x", status);
    }
    print("\n");
}

TEST(debug, breakpoints) {
    const struct code *load = &codes[CODE_load];
    with_breakpoint(CODE_load, (u32)load->start, 0x402, false, "instruction");
    with_breakpoint(CODE_load, (u32)load->user_start, 0x402, true, "instruction");
    for (u32 user = 0; user < 2; user++) {
        with_breakpoint(CODE_store, USER_DATA, 0xd0402, user, "write");
        with_breakpoint(CODE_load, USER_DATA, 0xd0402, user, "write, but read");
        with_breakpoint(CODE_load, USER_DATA, 0xf0402, user, "access");
    }
}

/*
 * Alignment is checked for user code that asks for it where the kernel lets it:
 * everywhere else it is not. (QEMU never does, so that case is left out.)
 */
TEST(alignment, unchecked) {
    for (u32 mask = 0; mask < 2; mask++)
        for (u32 check = 0; check < 2; check++)
            for (u32 user = 0; user < 2; user++) {
                if (mask && check && user)
                    continue;
                struct regs in = inputs(&codes[CODE_load]);
                in.esi = USER_DATA + 1;
                in.eflags |= check ? AC : 0;
                write_cr0(CR0_VALUE | (mask ? CR0_AM : 0));
                (user ? run_user : run)(&codes[CODE_load], &in);
                write_cr0(CR0_VALUE);
                say_open();
                print("AM %u AC %u %s: ", mask, check, user ? "user" : "kernel");
                print_outcome(&codes[CODE_load]);
                print("\n");
            }
}
