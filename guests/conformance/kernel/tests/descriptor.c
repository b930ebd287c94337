/* Descriptor-table registers, the task register, and instructions that inspect descriptors. */
#include "../guest.h"

static void say_bytes(const char *what, const u8 *bytes, u32 count) {
    say_open();
    print("%s:", what);
    for (u32 i = 0; i < count; i++)
        print(" %x", bytes[i]);
    print("\n");
}

static void store(enum code_id id) {
    struct regs in = prepare(&codes[id]);
    memset(operand_bytes, 0xee, sizeof operand_bytes);
    run(&codes[id], &in);
    say_bytes(codes[id].name, operand_bytes, 8);
}

TEST(descriptor, stores) {
    store(CODE_sgdt);
    store(CODE_sidt);
    store(CODE_sldt_memory);
    store(CODE_str_memory);
    store(CODE_smsw_memory);
    store(CODE_mov_from_ds_memory);
}

static void load(enum code_id id, u32 selector) {
    struct regs in = prepare(&codes[id]);
    in.eax = selector;
    operand_selector = (u16)selector;
    run(&codes[id], &in);
    say_open();
    print("%s %x: ", codes[id].name, selector);
    print_outcome(&codes[id]);
    struct regs out = inputs(&codes[CODE_sldt]);
    run(&codes[CODE_sldt], &out);
    print(" ldtr %x", result.regs.eax);
    run(&codes[CODE_str], &out);
    print(" tr %x\n", result.regs.edx);
}

TEST(descriptor, lldt) {
    static const u32 values[] = {LDT_SELECTOR, 0, 3, KERNEL_DS, TSS_SELECTOR, BEYOND_GDT, LDT_SELECTOR + 4, 0xfff8};
    for (u32 i = 0; i < ARRAY_SIZE(values); i++)
        load(CODE_lldt, values[i]);
    load(CODE_lldt_memory, LDT_SELECTOR);
    gdt[LDT_SELECTOR >> 3][1] &= ~0x8000u;
    load(CODE_lldt, LDT_SELECTOR);
}

TEST(descriptor, ltr) {
    static const u32 values[] = {KERNEL_DS, BEYOND_GDT, LDT_SELECTOR, TSS_SELECTOR /* busy */, SPARE_TSS};
    for (u32 i = 0; i < ARRAY_SIZE(values); i++)
        load(CODE_ltr, values[i]);
    say("loaded one is busy: %u", gdt[SPARE_TSS >> 3][1] >> 9 & 1);
    load(CODE_ltr_memory, SPARE_TSS);
    gdt[SPARE_TSS >> 3][1] &= ~0x8000u;
    load(CODE_ltr, SPARE_TSS);
}

/* System calls of user code use the stack of the task that was loaded last. */
static u32 other_stack[512];
static bool on_other_stack;
static bool where(struct frame *frame) {
    on_other_stack = (u32)frame >= (u32)other_stack && (u32)frame < (u32)other_stack + sizeof other_stack;
    return false;
}
TEST(descriptor, ltr_stack) {
    static struct tss other;
    static const u32 values[] = {TSS_SELECTOR, SPARE_TSS, TSS_SELECTOR, SPARE_TSS};
    const struct code *code = &codes[CODE_nothing];
    struct regs in = inputs(code);
    in.eflags |= IF; /* as user code has it, which a target may ask for on its short way */
    other.esp0 = (u32)(other_stack + ARRAY_SIZE(other_stack));
    other.ss0 = KERNEL_DS;
    set_descriptor(gdt[SPARE_TSS >> 3], (u32)&other, 0x67, 0x89);
    hooks[GATE_SYSCALL] = where;
    for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
        gdt[values[i] >> 3][1] &= ~0x200u; /* not busy */
        asm volatile("ltr %w0" : : "r"(values[i]) : "memory");
        run_user(code, &in);
        run_user(code, &in);
        say("%x: %s stack", values[i], on_other_stack ? "another" : "the usual");
    }
}

/* A shorter table: what lies beyond its limit is not there. */
TEST(descriptor, limit) {
    struct table_register whole = operand_gdt;
    operand_gdt.limit = LDT_SELECTOR - 1;
    struct regs in = inputs(&codes[CODE_lgdt]);
    run(&codes[CODE_lgdt], &in);
    say_result(&codes[CODE_lgdt], &in, "lgdt: ");
    load(CODE_lldt, LDT_SELECTOR);
    operand_gdt = whole;
    run(&codes[CODE_lgdt], &in);
    load(CODE_lldt, LDT_SELECTOR);
}

/* Another table at another place. */
TEST(descriptor, moved) {
    static u32 other[GDT_ENTRIES][2] __attribute__((aligned(16)));
    memcpy(other, gdt, sizeof other);
    other[TLS_A >> 3][1] &= ~0x8000u;
    struct table_register whole = operand_gdt;
    operand_gdt.base = (u32)other;
    struct regs in = inputs(&codes[CODE_lgdt]);
    run(&codes[CODE_lgdt], &in);
    in = inputs(&codes[CODE_mov_to_fs]);
    run(&codes[CODE_mov_to_fs], &in);
    say_result(&codes[CODE_mov_to_fs], &in, "absent in the other: ");
    operand_gdt = whole;
    in = inputs(&codes[CODE_lgdt]);
    run(&codes[CODE_lgdt], &in);
    in = inputs(&codes[CODE_mov_to_fs]);
    run(&codes[CODE_mov_to_fs], &in);
    say_result(&codes[CODE_mov_to_fs], &in, "present in the first: ");
}

static const u32 inspected[] = {
    0,           3,           KERNEL_CS,    KERNEL_DS,    KERNEL_DS + 3, USER_CS,      USER_DS,       USER_DS - 3,
    TLS_A,       TSS_SELECTOR, LDT_SELECTOR, ABSENT_DATA,  ABSENT_CODE,  READ_ONLY_DATA, EXECUTE_ONLY, CONFORMING_CS,
    SMALL_DATA + 3, CALL_GATE,  SPARE_TSS,    BEYOND_GDT,   0xf,          0xfff8,
};

static void inspect(bool user) {
    static const enum code_id ids[] = {CODE_lar, CODE_lsl, CODE_verr, CODE_verw};
    for (u32 i = 0; i < ARRAY_SIZE(inspected); i++) {
        say_open();
        print("%x:", inspected[i]);
        for (u32 n = 0; n < ARRAY_SIZE(ids); n++) {
            struct regs in = inputs(&codes[ids[n]]);
            in.eax = inspected[i];
            (user ? run_user : run)(&codes[ids[n]], &in);
            print(" %s ", codes[ids[n]].name);
            if (result.vector != NO_VECTOR)
                print_outcome(&codes[ids[n]]);
            else if (n >= 2)
                print("%s", result.regs.eflags & ZF ? "yes" : "no");
            else if (result.regs.eflags & ZF)
                print("%x", result.regs.ebx & (n == 0 ? 0xf0ff00 : ~0u)); /* lar leaves 19-16 undefined */
            else
                print("%s", result.regs.ebx == in.ebx ? "no" : "no, but wrote");
        }
        print("\n");
    }
}
TEST(descriptor, inspect) { inspect(false); }
TEST(descriptor, inspect_user) { inspect(true); }

TEST(descriptor, arpl) {
    static const struct {
        u32 selector, level;
    } cases[] = {{0x68, 3}, {0x6b, 0}, {0x69, 2}, {0x6a, 2}};
    for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
        struct regs in = inputs(&codes[CODE_arpl]);
        in.eax = cases[i].selector;
        in.ecx = cases[i].level;
        run(&codes[CODE_arpl], &in);
        say("%x %x: %x %f", cases[i].selector, cases[i].level, result.regs.eax, result.regs.eflags & ZF);
    }
}
