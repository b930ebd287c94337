/* Every sensitive operation once in the kernel, three times over with different flags. */
#include "../guest.h"

static void one(const struct code *code) {
    static const u32 patterns[] = {0, ARITHMETIC, IF | DF};
    for (u32 i = 0; i < ARRAY_SIZE(patterns); i++) {
        struct regs in = prepare(code);
        in.eflags = FIXED | patterns[i];
        /* String instructions downwards would leave their operand. */
        if (code >= &codes[CODE_insb])
            in.eflags &= ~DF;
        run(code, &in);
        say_open();
        print("%f: ", in.eflags);
        print_outcome(code);
        print_changes(code, &in);
        if (result.regs.esp < in.esp || !in.esp)
            if (result.regs.esp == (u32)scratch_stack + sizeof scratch_stack - 4)
                print(" pushed %x", *(u32 *)result.regs.esp & ~(code == &codes[CODE_pushf] ? 0 : 0xffff0000));
        print("\n");
    }
}

TEST(each, all) {
    for (enum code_id id = CODE_cli; id < CODE_SEQUENCES; id++) {
        if (codes[id].traits & TRAIT_ONCE || id == CODE_hlt || id == CODE_sysexit || id == CODE_sysenter)
            continue;
        if (!subject(codes[id].name))
            continue;
        one(&codes[id]);
        clean_up();
    }
}
