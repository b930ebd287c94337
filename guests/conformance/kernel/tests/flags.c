/* EFLAGS: the interrupt flag, and whether the rest survives what touches it. */
#include "../guest.h"

static const u32 patterns[] = {0, ARITHMETIC, CF | SF, PF | ZF | OF, AF};

static void with_patterns(enum code_id id, u32 more) {
    const struct code *code = &codes[id];
    for (u32 i = 0; i < ARRAY_SIZE(patterns); i++) {
        struct regs in = prepare(code);
        in.eflags = FIXED | patterns[i] | more;
        run(code, &in);
        say_open();
        print("%f -> %f ", in.eflags, result.regs.eflags);
        print_outcome(code);
        print("\n");
    }
}

TEST(flags, nothing) { with_patterns(CODE_nothing, 0); }
TEST(flags, cli) {
    with_patterns(CODE_cli, 0);
    with_patterns(CODE_cli, IF);
}
TEST(flags, sti) {
    with_patterns(CODE_sti, 0);
    with_patterns(CODE_sti, IF);
}

/* What pushf stores, with everything it can store set in turn. */
TEST(flags, pushf) {
    static const u32 values[] = {0, CF, PF, AF, ZF, SF, OF, ARITHMETIC, IF, DF, IOPL, NT, AC, ID,
                                 IF | IOPL | DF | ARITHMETIC};
    for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
        struct regs in = prepare(&codes[CODE_pushf]);
        in.eflags = FIXED | values[i];
        run(&codes[CODE_pushf], &in);
        say("%f pushed %x, flags after %f, esp%d", values[i], *(u32 *)result.regs.esp, result.regs.eflags,
            result.regs.esp - ((u32)scratch_stack + sizeof scratch_stack));
    }
}

TEST(flags, pushfw) {
    struct regs in = prepare(&codes[CODE_pushfw]);
    in.eflags = FIXED | IF | CF | IOPL;
    run(&codes[CODE_pushfw], &in);
    say("pushed %x, esp%d", *(u16 *)result.regs.esp,
        result.regs.esp - ((u32)scratch_stack + sizeof scratch_stack));
}

/* What popf takes over, from all clear and from all set. */
TEST(flags, popf) {
    static const u32 values[] = {0,  CF,   PF, AF, ZF, SF,         OF,
                                 IF, IOPL, DF, NT, AC, ARITHMETIC, ID | AC | NT | IOPL | IF | DF | ARITHMETIC};
    static const u32 before[] = {0, IF | IOPL | DF | ARITHMETIC};
    for (u32 b = 0; b < ARRAY_SIZE(before); b++)
        for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
            struct regs in = inputs(&codes[CODE_popf]);
            in.eflags = FIXED | before[b];
            PUSH(&in, values[i]);
            run(&codes[CODE_popf], &in);
            say("%f over %f: %f", values[i], before[b], result.regs.eflags);
        }
}

TEST(flags, popfw) {
    struct regs in = inputs(&codes[CODE_popfw]);
    in.eflags = FIXED | AC | IF;
    PUSH(&in, CF | IOPL | FIXED);
    run(&codes[CODE_popfw], &in);
    say("%f, esp%d", result.regs.eflags, result.regs.esp - ((u32)scratch_stack + sizeof scratch_stack));
}

/* Bits that cannot be set: the reserved ones, VM and RF. */
TEST(flags, reserved) {
    struct regs in = inputs(&codes[CODE_popf]);
    PUSH(&in, 0xffc38028 | FIXED);
    run(&codes[CODE_popf], &in);
    say("%x", result.regs.eflags & 0xffc38028);
}
