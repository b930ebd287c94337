/* The floating-point unit's switches in CR0, and its registers across sensitive instructions. */
#include "../guest.h"

static void with(u32 bits, const char *what) {
    static const enum code_id ids[] = {CODE_fnop, CODE_fwait};
    for (u32 i = 0; i < ARRAY_SIZE(ids); i++)
        for (u32 user = 0; user < 2; user++) {
            struct regs in = inputs(&codes[ids[i]]);
            write_cr0(CR0_VALUE | bits);
            (user ? run_user : run)(&codes[ids[i]], &in);
            write_cr0(CR0_VALUE);
            say_open();
            print("%s %s %s: ", what, user ? "user" : "kernel", codes[ids[i]].name);
            print_outcome(&codes[ids[i]]);
            print("\n");
        }
}

TEST(fpu, switches) {
    with(0, "none");
    with(CR0_TS, "TS");
    with(CR0_MP, "MP");
    with(CR0_TS | CR0_MP, "TS MP");
    with(CR0_EM, "EM");
}

/* Numbers on its stack survive everything that is not its own. */
TEST(fpu, kept) {
    u32 before[2], after[2];
    asm volatile("fninit; fldpi; fld1; fldpi; fstpl %0" : "=m"(before));
    for (enum code_id id = CODE_cli; id < CODE_SEQUENCES; id++) {
        if (codes[id].traits & TRAIT_ONCE || id == CODE_hlt || id == CODE_sysenter || id == CODE_sysexit)
            continue;
        struct regs in = prepare(&codes[id]);
        run(&codes[id], &in);
    }
    struct regs in = inputs(&codes[CODE_nothing]);
    run_user(&codes[CODE_nothing], &in);
    asm volatile("fstp %%st(0); fstpl %0" : "=m"(after));
    say("%s", before[0] == after[0] && before[1] == after[1] ? "yes" : "no");
}
