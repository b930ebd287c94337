/* Far calls, jumps and returns, call gates, sysenter and sysexit. */
#include "../guest.h"

extern const u8 gate_target[];

static const u32 targets[] = {0,  3,           KERNEL_DS, USER_CS,       USER_CS - 3,   BEYOND_GDT, ABSENT_CODE,
                              KERNEL_CS + 3, CONFORMING_CS, EXECUTE_ONLY, LDT_SELECTOR, 0xf};

/* Codes at CONFORMING_CS and EXECUTE_ONLY end in run_done as KERNEL_CS does: all are flat. */
static void through(enum code_id id, u32 offset) {
    const struct code *code = &codes[id];
    for (u32 i = 0; i < ARRAY_SIZE(targets); i++) {
        struct regs in = inputs(code);
        operand_far[0] = offset;
        operand_far[1] = targets[i];
        run(code, &in);
        say_open();
        print("%s %x: ", code->name, targets[i]);
        print_outcome(code);
        print_changes(code, &in);
        print(" cs %x\n", result.cs);
    }
}

TEST(far, jump) { through(CODE_far_jmp_memory, (u32)codes[CODE_far_jmp_memory].end); }

TEST(far, call) {
    struct regs in = inputs(&codes[CODE_far_call_memory]);
    operand_far[0] = (u32)gate_target;
    operand_far[1] = KERNEL_CS;
    run(&codes[CODE_far_call_memory], &in);
    say_result(&codes[CODE_far_call_memory], &in, "there and back: ");
    operand_far[0] = (u32)codes[CODE_far_call_memory].end;
    run(&codes[CODE_far_call_memory], &in);
    say("frame: return to %s, cs %x, esp%d", place(&codes[CODE_far_call_memory], *(u32 *)result.regs.esp),
        ((u32 *)result.regs.esp)[1] & 0xffff, result.regs.esp - ((u32)scratch_stack + sizeof scratch_stack));
    through(CODE_far_call_memory, (u32)gate_target);
}

TEST(far, ret) {
    for (u32 i = 0; i < ARRAY_SIZE(targets); i++) {
        if ((targets[i] & ~3u) == (USER_CS & ~3u))
            continue;
        const struct code *code = &codes[CODE_far_ret];
        struct regs in = inputs(code);
        PUSH(&in, (u32)code->end, targets[i], USER_STACK_TOP, USER_DS);
        run(code, &in);
        say_open();
        print("%x: ", targets[i]);
        print_outcome(code);
        print_changes(code, &in);
        print(" cs %x\n", result.cs);
    }
}

TEST(far, ret_to_user) {
    static const u32 stacks[] = {USER_DS, 0, KERNEL_DS, USER_DS - 3, TLS_A};
    for (u32 i = 0; i < ARRAY_SIZE(stacks); i++) {
        const struct code *code = &codes[CODE_far_ret];
        struct regs in = inputs(code);
        PUSH(&in, (u32)code->user_end, USER_CS, USER_STACK_TOP - 32, stacks[i]);
        run(code, &in);
        say_open();
        print("ss %x: ", stacks[i]);
        print_outcome(code);
        print(" cs %x ss %x\n", result.cs, result.ss);
    }
    const struct code *code = &codes[CODE_far_ret_release];
    struct regs in = inputs(code);
    PUSH(&in, (u32)code->user_end, USER_CS, 0, 0, USER_STACK_TOP - 32, USER_DS);
    run(code, &in);
    say("released: cs %x esp top%d", result.cs, result.regs.esp - USER_STACK_TOP);
}

TEST(far, gate) {
    struct regs in = inputs(&codes[CODE_far_call]);
    run(&codes[CODE_far_call], &in);
    say_result(&codes[CODE_far_call], &in, "kernel: ");
    run_user(&codes[CODE_far_call], &in);
    say_result(&codes[CODE_far_call], &in, "user: ");
    gdt[CALL_GATE >> 3][1] &= ~0x6000u; /* DPL 0 */
    run_user(&codes[CODE_far_call], &in);
    say_result(&codes[CODE_far_call], &in, "user, gate of the kernel: ");
    gdt[CALL_GATE >> 3][1] &= ~0x8000u;
    run(&codes[CODE_far_call], &in);
    say_result(&codes[CODE_far_call], &in, "absent: ");
}

/* Refused before a task would be switched. */
TEST(far, task) {
    static const enum code_id ids[] = {CODE_far_call_task, CODE_far_jmp_task};
    for (u32 i = 0; i < ARRAY_SIZE(ids); i++) {
        const struct code *code = &codes[ids[i]];
        struct regs in = inputs(code);
        u32 *high = &gdt[SPARE_TSS >> 3][1], before = *high;
        run_user(code, &in);
        say_result(code, &in, "user, segment of the kernel: ");
        *high = (before | 0x6000) & ~0x8000u; /* DPL 3, not present */
        run_user(code, &in);
        say_result(code, &in, "user, absent: ");
        run(code, &in);
        say_result(code, &in, "kernel, absent: ");
        *high = before;
    }
}

static void wrmsr(u32 msr, u32 value) { asm volatile("wrmsr" : : "c"(msr), "a"(value), "d"(0)); }

extern const u8 run_done[];
TEST(far, sysenter) {
    struct regs in = inputs(&codes[CODE_sysenter]);
    wrmsr(0x174, 0);
    run_user(&codes[CODE_sysenter], &in);
    say_result(&codes[CODE_sysenter], &in, "without a segment: ");
    wrmsr(0x174, KERNEL_CS);
    wrmsr(0x175, (u32)scratch_stack + 256);
    wrmsr(0x176, (u32)run_done);
    for (u32 i = 0; i < 2; i++) {
        in.eflags = FIXED | ARITHMETIC | (i ? IF : 0);
        run_user(&codes[CODE_sysenter], &in);
        say("%f: cs %x ss %x ds %x esp %s flags %f ecx %x edx %x", in.eflags, result.cs, result.ss, result.ds,
            result.regs.esp == (u32)scratch_stack + 256 ? "right" : "wrong", result.regs.eflags, result.regs.ecx,
            result.regs.edx);
    }
    wrmsr(0x174, 0);
}

TEST(far, sysexit) {
    struct regs in = inputs(&codes[CODE_sysexit]);
    in.edx = (u32)codes[CODE_sysexit].user_end;
    in.ecx = USER_STACK_TOP - 12;
    wrmsr(0x174, 0);
    run(&codes[CODE_sysexit], &in);
    say_result(&codes[CODE_sysexit], &in, "without a segment: ");
    wrmsr(0x174, KERNEL_CS);
    for (u32 i = 0; i < 2; i++) {
        in.eflags = FIXED | CF | ZF | (i ? IF : 0);
        run(&codes[CODE_sysexit], &in);
        say("%f: cs %x ss %x esp top%d flags %f", in.eflags, result.cs, result.ss, result.regs.esp - USER_STACK_TOP,
            result.regs.eflags);
    }
    run_user(&codes[CODE_sysexit], &in);
    say_result(&codes[CODE_sysexit], &in, "user: ");
    wrmsr(0x174, 0);
}
