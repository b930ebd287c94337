/* Segment registers: every way to load one, what is refused, and segments with a base. */
#include "../guest.h"

extern u8 user_data[];

static const u32 selectors[] = {
    0,           3,           KERNEL_DS,    KERNEL_DS + 3, KERNEL_CS,  USER_DS,      USER_DS - 3,    USER_CS,
    ABSENT_DATA, ABSENT_USER, READ_ONLY_DATA, EXECUTE_ONLY,  BEYOND_GDT, TSS_SELECTOR, LDT_SELECTOR, 0xf,
    CALL_GATE,   SMALL_DATA + 3, TLS_A,      0xfff8,
};

enum form { BY_REGISTER, BY_POP, BY_POINTER };

static void give(struct regs *in, enum form form, u32 selector, bool user) {
    in->eax = in->ecx = in->edx = selector;
    if (form == BY_POP) {
        in->esp = user ? USER_STACK_TOP - 4 : (u32)scratch_stack + sizeof scratch_stack - 4;
        *(u32 *)in->esp = selector;
    }
    if (form == BY_POINTER) {
        u32 *operand = user ? (u32 *)user_data : operand_far;
        operand[0] = 0x1234;
        operand[1] = selector;
        in->esi = user ? USER_DATA : (u32)operand_far;
    }
}

static void load_all(enum code_id id, enum form form, bool user) {
    const struct code *code = &codes[id];
    for (u32 i = 0; i < ARRAY_SIZE(selectors); i++) {
        struct regs in = inputs(code);
        give(&in, form, selectors[i], user);
        (user ? run_user : run)(code, &in);
        say_open();
        print("%s %x: ", code->name, selectors[i]);
        print_outcome(code);
        if (result.vector == NO_VECTOR)
            print(" ds %x es %x fs %x gs %x ss %x", result.ds, result.es, result.fs, result.gs, result.ss);
        print("\n");
    }
}

TEST(segment, mov) {
    load_all(CODE_mov_to_ds, BY_REGISTER, false);
    load_all(CODE_mov_to_es, BY_REGISTER, false);
    load_all(CODE_mov_to_fs, BY_REGISTER, false);
    load_all(CODE_mov_to_gs, BY_REGISTER, false);
}
TEST(segment, pop) {
    load_all(CODE_pop_ds, BY_POP, false);
    load_all(CODE_pop_es, BY_POP, false);
    load_all(CODE_pop_fs, BY_POP, false);
    load_all(CODE_pop_gs, BY_POP, false);
}
TEST(segment, pointer) {
    load_all(CODE_lds, BY_POINTER, false);
    load_all(CODE_les, BY_POINTER, false);
    load_all(CODE_lfs, BY_POINTER, false);
    load_all(CODE_lgs, BY_POINTER, false);
}

/* SS takes writable data of the current privilege only. */
TEST(segment, stack) {
    static const u32 values[] = {0,       KERNEL_DS,      KERNEL_DS + 3, USER_DS,    KERNEL_CS,
                                 TLS_A,   READ_ONLY_DATA, ABSENT_DATA,   BEYOND_GDT, TSS_SELECTOR};
    for (u32 form = BY_REGISTER; form <= BY_POP; form++) {
        const struct code *code = &codes[form == BY_POP ? CODE_pop_ss : CODE_mov_to_ss];
        for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
            struct regs in = inputs(code);
            give(&in, form, values[i], false);
            run(code, &in);
            say_open();
            print("%s %x: ", code->name, values[i]);
            print_outcome(code);
            print(" ss %x\n", result.ss);
        }
    }
}

TEST(segment, code_segment_pushed) {
    struct regs in = prepare(&codes[CODE_push_cs]);
    run(&codes[CODE_push_cs], &in);
    say("%x", *(u32 *)result.regs.esp & 0xffff);
}

/* Loading a descriptor sets its accessed bit. */
TEST(segment, accessed) {
    u32 *words = gdt[TLS_A >> 3];
    words[1] &= ~0x100u;
    struct regs in = inputs(&codes[CODE_mov_to_fs]);
    run(&codes[CODE_mov_to_fs], &in);
    say("before 0, after loading %u", words[1] >> 8 & 1);
    words[1] &= ~0x100u;
    in = inputs(&codes[CODE_lar]);
    in.eax = TLS_A;
    run(&codes[CODE_lar], &in);
    say("after lar %u, which read %x", words[1] >> 8 & 1, result.regs.ebx & 0xf0ff00);
}

/* The local descriptor table. */
TEST(segment, local) {
    struct regs in = inputs(&codes[CODE_mov_to_gs]);
    in.eax = 0xf;
    run(&codes[CODE_mov_to_gs], &in);
    say_result(&codes[CODE_mov_to_gs], &in, "no table: ");
    struct regs table = inputs(&codes[CODE_lldt]);
    run(&codes[CODE_lldt], &table);
    say_result(&codes[CODE_lldt], &table, "lldt: ");
    run(&codes[CODE_mov_to_gs], &in);
    say_open();
    print_outcome(&codes[CODE_mov_to_gs]);
    print(" gs %x\n", result.gs);
    in.eax = 0x27; /* one beyond its end */
    run(&codes[CODE_mov_to_gs], &in);
    say_result(&codes[CODE_mov_to_gs], &in, "beyond: ");
    in.eax = 7; /* an empty entry */
    run(&codes[CODE_mov_to_gs], &in);
    say_result(&codes[CODE_mov_to_gs], &in, "empty: ");
}

static void read_through(enum code_id id, bool user, u32 offset, const char *what) {
    struct regs in = inputs(&codes[id]);
    in.esi = offset;
    (user ? run_user : run)(&codes[id], &in);
    say_open();
    print("%s: ", what);
    print_outcome(&codes[id]);
    print(" eax %x\n", result.regs.eax);
}

static void set_tls(u32 selector, u32 base) { set_descriptor(gdt[selector >> 3], base, 0xfffff, 0xc0f3); }

/* FS and GS with a base, in the kernel. */
TEST(segment, based) {
    for (u32 i = 0; i < 16; i++)
        ((u32 *)user_data)[i] = 0x1000 + i;
    set_tls(TLS_A, USER_DATA);
    set_tls(TLS_B, USER_DATA + 16);
    asm volatile("mov %0, %%fs; mov %1, %%gs" : : "r"(TLS_A), "r"(TLS_B));
    read_through(CODE_load_fs, false, 4, "fs:4");
    asm volatile("mov %0, %%fs; mov %1, %%gs" : : "r"(TLS_A), "r"(TLS_B));
    read_through(CODE_load_gs, false, 4, "gs:4");
    asm volatile("mov %0, %%gs" : : "r"(TLS_B));
    read_through(CODE_load_gs, false, (u32)-16, "gs:-16");
    struct regs in = inputs(&codes[CODE_store_gs]);
    in.esi = 8;
    asm volatile("mov %0, %%gs" : : "r"(TLS_B));
    run(&codes[CODE_store_gs], &in);
    say("stored through gs:8, memory %x", ((u32 *)user_data)[6]);
}

/* ES with a base, loaded by the code that uses it. */
TEST(segment, based_es) {
    for (u32 i = 0; i < 4; i++)
        ((u32 *)user_data)[i] = 0x1100 + i;
    read_through(CODE_reload_es, false, 4, "kernel");
    read_through(CODE_reload_es, true, 8, "user");
}

/* A descriptor changed by plain stores counts from the next load on. */
TEST(segment, reload) {
    for (u32 i = 0; i < 16; i++)
        ((u32 *)user_data)[i] = 0x2000 + i;
    for (u32 i = 0; i < 4; i++) {
        set_tls(TLS_B, USER_DATA + 8 * i);
        read_through(CODE_reload_gs, false, 0, "kernel");
    }
}

/* User code has its TLS, and sees a change after the next return from the kernel. */
static u32 next_base;
static bool change_tls(struct frame *frame) {
    (void)frame;
    set_tls(TLS_B, next_base);
    return true;
}
TEST(segment, user_tls) {
    for (u32 i = 0; i < 16; i++)
        ((u32 *)user_data)[i] = 0x3000 + i;
    set_tls(TLS_A, USER_DATA + 4);
    set_tls(TLS_B, USER_DATA + 8);
    set_user_segments(TLS_A, TLS_B);
    read_through(CODE_load_fs, true, 0, "fs");
    say("selectors fs %x gs %x", result.fs, result.gs);
    read_through(CODE_load_gs, true, 0, "gs");
    set_tls(TLS_B, USER_DATA + 12);
    read_through(CODE_load_gs, true, 0, "gs after a change");
    hooks[GATE_TRAP] = change_tls;
    for (u32 i = 0; i < 3; i++) {
        next_base = USER_DATA + 16 + 4 * i;
        read_through(CODE_syscall_load_gs, true, 0, "gs after a system call that changed it");
    }
    read_through(CODE_reload_gs, true, 4, "gs loaded by user code");
}

/* In user mode: loads that are allowed, and faults for all that is not. */
TEST(segment, user) {
    load_all(CODE_mov_to_es, BY_REGISTER, true);
    load_all(CODE_mov_to_gs, BY_REGISTER, true);
    load_all(CODE_pop_fs, BY_POP, true);
    load_all(CODE_lgs, BY_POINTER, true);
}
