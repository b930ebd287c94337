/* iret within the kernel, out to user mode, and everything it refuses. */
#include "../guest.h"

static const struct code *const iret = &codes[CODE_iret];

static u32 end(void) { return (u32)iret->end; }
static u32 user_end(void) { return (u32)iret->user_end; }

TEST(iret, same_level) {
    static const u32 values[] = {0,    CF, ARITHMETIC, IF, DF, AC, ID, IOPL, IF | IOPL | DF | ARITHMETIC | AC,
                                 NT};
    for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
        struct regs in = inputs(iret);
        PUSH(&in, end(), KERNEL_CS, FIXED | values[i], 0xdead);
        u32 esp = in.esp;
        run(iret, &in);
        say_open();
        print("%f: ", values[i]);
        print_outcome(iret);
        print(" flags %f cs %x esp+%d\n", result.regs.eflags, result.cs, result.regs.esp - esp);
    }
}

/* Only the low half of the pushed CS counts. */
TEST(iret, high_half_of_cs) {
    struct regs in = inputs(iret);
    PUSH(&in, end(), 0x12340000 | KERNEL_CS, FIXED);
    run(iret, &in);
    say_open();
    print_outcome(iret);
    print(" cs %x\n", result.cs);
}

TEST(iret, bad_cs) {
    static const u32 selectors[] = {0,           3,           KERNEL_DS,  BEYOND_GDT,     ABSENT_CODE,
                                    KERNEL_CS + 3, CONFORMING_CS, EXECUTE_ONLY, TSS_SELECTOR, USER_DS,
                                    LDT_SELECTOR + 4, USER_CS - 3};
    for (u32 i = 0; i < ARRAY_SIZE(selectors); i++) {
        struct regs in = inputs(iret);
        PUSH(&in, end(), selectors[i], FIXED | ZF, USER_STACK_TOP, USER_DS);
        run(iret, &in);
        say_open();
        print("cs %x: ", selectors[i]);
        print_outcome(iret);
        print(" cs %x esp%d\n", result.cs, result.regs.esp - in.esp);
    }
}

TEST(iret, to_user) {
    static const u32 values[] = {0, CF, ARITHMETIC, IF, DF, IF | IOPL, AC, ID, 1u << 12};
    for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
        struct regs in = inputs(iret);
        PUSH(&in, user_end(), USER_CS, FIXED | values[i], USER_STACK_TOP - 16, USER_DS);
        run(iret, &in);
        say_open();
        print("%f: ", values[i]);
        print_outcome(iret);
        print(" flags %f cs %x ss %x esp top%d\n", result.regs.eflags, result.cs, result.ss,
              result.regs.esp - USER_STACK_TOP);
    }
}

TEST(iret, bad_ss) {
    static const u32 selectors[] = {0, 3, KERNEL_DS, KERNEL_DS + 3, USER_DS - 3, USER_CS, BEYOND_GDT,
                                    TLS_A};
    for (u32 i = 0; i < ARRAY_SIZE(selectors); i++) {
        struct regs in = inputs(iret);
        PUSH(&in, user_end(), USER_CS, FIXED, USER_STACK_TOP, selectors[i]);
        run(iret, &in);
        say_open();
        print("ss %x: ", selectors[i]);
        print_outcome(iret);
        print(" cs %x\n", result.cs);
    }
}

/* Segment registers that user mode may not keep are emptied on the way out. */
TEST(iret, empties_segments) {
    static const u32 selectors[] = {0, KERNEL_DS, USER_DS, CONFORMING_CS, TLS_A};
    for (u32 i = 0; i < ARRAY_SIZE(selectors); i++) {
        struct regs in = inputs(iret);
        PUSH(&in, user_end(), USER_CS, FIXED, USER_STACK_TOP, USER_DS);
        asm volatile("mov %0, %%es; mov %0, %%fs; mov %0, %%gs" : : "r"(selectors[i]));
        run(iret, &in);
        say("%x: es %x fs %x gs %x", selectors[i], result.es, result.fs, result.gs);
        asm volatile("mov %0, %%es" : : "r"(KERNEL_DS));
    }
}

/* With NT set iret returns to the task that the TSS links to: here to none. */
TEST(iret, nested_task) {
    struct regs in = inputs(iret);
    tss.link = 0;
    in.eflags = FIXED | NT;
    PUSH(&in, end(), KERNEL_CS, FIXED);
    run(iret, &in);
    say_result(iret, &in, "");
}

/* The frame crosses into a page that is not there. */
TEST(iret, frame_not_mapped) {
    struct regs in = inputs(iret);
    map(WINDOW, frame(0), PTE_P | PTE_W);
    unmap(WINDOW + PAGE_SIZE);
    for (u32 words = 1; words < 3; words++) {
        in.esp = WINDOW + PAGE_SIZE - 4 * words;
        ((u32 *)in.esp)[0] = end();
        if (words > 1)
            ((u32 *)in.esp)[1] = KERNEL_CS;
        run(iret, &in);
        say_open();
        print("%u words mapped: ", words);
        print_outcome(iret);
        print_changes(iret, &in);
        print("\n");
    }
}
