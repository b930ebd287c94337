/* User mode: entering and leaving it, and what it may not do. */
#include "../guest.h"

static void say_user(const struct code *code, const struct regs *in, const char *prefix) {
    run_user(code, in);
    say_result(code, in, prefix);
}

TEST(user, enter) {
    struct regs in = inputs(&codes[CODE_nothing]);
    run_user(&codes[CODE_nothing], &in);
    say_result(&codes[CODE_nothing], &in, "");
    say("cs %x ss %x ds %x es %x fs %x gs %x", result.cs, result.ss, result.ds, result.es, result.fs, result.gs);
}

TEST(user, flags_kept) {
    static const u32 values[] = {ARITHMETIC, IF, IF | CF | DF, IOPL, AC, ID};
    for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
        struct regs in = inputs(&codes[CODE_nothing]);
        in.eflags = FIXED | values[i];
        run_user(&codes[CODE_nothing], &in);
        say("%f: %f", values[i], result.regs.eflags);
    }
}

static u32 seen_flags, seen_count;
static bool count_trap(struct frame *frame) {
    seen_flags = flags();
    seen_count++;
    (void)frame;
    return true;
}

TEST(user, system_calls) {
    hooks[GATE_TRAP] = count_trap;
    seen_count = 0;
    struct regs in = inputs(&codes[CODE_int_trap]);
    in.eflags = FIXED | IF | ARITHMETIC;
    say_user(&codes[CODE_int_trap], &in, "trap gate with IF: ");
    say("handler ran %u times with %f", seen_count, seen_flags & (IF | DF | NT));
    in.eflags = FIXED;
    say_user(&codes[CODE_int_trap], &in, "trap gate without IF: ");
    say("handler ran %u times with %f", seen_count, seen_flags & (IF | DF | NT));
}

TEST(user, refused_gates) {
    struct regs in = inputs(&codes[CODE_int_kernel]);
    say_user(&codes[CODE_int_kernel], &in, "gate of the kernel: ");
    say_user(&codes[CODE_int_absent], &in, "absent gate: ");
}

static const u32 changed[] = {0, IF, IOPL, IF | IOPL, CF | DF | AC | ID, NT};

static void popf_with(u32 before) {
    for (u32 i = 0; i < ARRAY_SIZE(changed); i++) {
        struct regs in = inputs(&codes[CODE_popf]);
        in.esp = USER_STACK_TOP - 4;
        *(u32 *)in.esp = FIXED | changed[i];
        in.eflags = FIXED | before;
        run_user(&codes[CODE_popf], &in);
        say("%f over %f: %f", changed[i], before, result.regs.eflags);
    }
}

TEST(user, popf) {
    popf_with(0);
    popf_with(IF);
    popf_with(1u << 12);
}
TEST(user, popf_iopl3) {
    popf_with(IOPL);
    popf_with(IOPL | IF);
}

TEST(user, cli_sti) {
    struct regs in = inputs(&codes[CODE_cli]);
    in.eflags = FIXED | IF | ZF;
    say_user(&codes[CODE_cli], &in, "cli: ");
    say_user(&codes[CODE_sti], &in, "sti: ");
    in.eflags |= 2u << 12;
    say_user(&codes[CODE_cli], &in, "cli with IOPL 2: ");
    in.eflags |= IOPL;
    say_user(&codes[CODE_cli], &in, "cli with IOPL 3: ");
    in.eflags &= ~IF;
    say_user(&codes[CODE_sti], &in, "sti with IOPL 3: ");
}

/* The stack of an entry from user mode is the TSS's at that time; changing it is a plain store. */
static u32 entry_esp;
static bool note_esp(struct frame *frame) {
    entry_esp = (u32)frame + sizeof *frame;
    return false;
}
TEST(user, esp0) {
    hooks[GATE_SYSCALL] = note_esp;
    struct regs in = inputs(&codes[CODE_nothing]);
    for (u32 i = 0; i < 3; i++) {
        tss.esp0 = (u32)entry_stack + sizeof entry_stack - i * 256;
        run_user(&codes[CODE_nothing], &in);
        say("esp0 lowered by %x: entered at top-%x", i * 256, (u32)entry_stack + sizeof entry_stack - entry_esp);
    }
}

/* All that a user program may not do faults at the instruction with the registers intact. */
TEST(privileged, all) {
    for (enum code_id id = CODE_load; id < CODE_SEQUENCES; id++) {
        const struct code *code = &codes[id];
        if (id == CODE_execute || id == CODE_load || id == CODE_store || id == CODE_modify || id == CODE_copy)
            continue;
        if (!subject(code->name))
            continue;
        struct regs in = prepare_user(code);
        say_user(code, &in, "");
    }
}
