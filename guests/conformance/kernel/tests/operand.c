/*
 * Faults in sensitive instructions with operands in memory: reported at the
 * instruction with the registers intact, and done again once the page is there.
 */
#include "../guest.h"

static const enum code_id by_esi[] = {
    CODE_lgdt,        CODE_lidt,          CODE_lldt_memory,     CODE_ltr_memory,         CODE_lmsw_memory,
    CODE_smsw_memory, CODE_sgdt,          CODE_sidt,            CODE_sldt_memory,        CODE_str_memory,
    CODE_lds,         CODE_les,           CODE_lfs,             CODE_lgs,                CODE_lss,
    CODE_far_call_memory, CODE_far_jmp_memory, CODE_mov_to_gs_memory, CODE_mov_from_ds_memory, CODE_invlpg,
    CODE_outsb,       CODE_outsw,         CODE_outsl,           CODE_rep_outsb,          CODE_rep_outsl,
};
static const enum code_id by_edi[] = {CODE_insb, CODE_insw, CODE_insl, CODE_rep_insb, CODE_rep_insl};

static void report(enum code_id id, const struct regs *in) {
    const struct code *code = &codes[id];
    run(code, in);
    say_open();
    print("%s: ", code->name);
    print_outcome(code);
    print_changes(code, in);
    print("\n");
}

static void all(u32 address) {
    for (u32 i = 0; i < ARRAY_SIZE(by_esi); i++) {
        struct regs in = prepare(&codes[by_esi[i]]);
        in.esi = address;
        report(by_esi[i], &in);
    }
    for (u32 i = 0; i < ARRAY_SIZE(by_edi); i++) {
        struct regs in = prepare(&codes[by_edi[i]]);
        in.edi = address;
        report(by_edi[i], &in);
    }
}

TEST(operand, absent) {
    unmap(WINDOW);
    all(WINDOW + 16);
}

/* The first byte is there, the rest is not. */
TEST(operand, crossing) {
    map(WINDOW, frame(0), PTE_P | PTE_W);
    unmap(WINDOW + PAGE_SIZE);
    memset((void *)frame(0), 0, PAGE_SIZE);
    all(WINDOW + PAGE_SIZE - 1);
}

/* Stores to a page that may only be read. */
TEST(operand, read_only) {
    static const enum code_id stores[] = {CODE_smsw_memory, CODE_sgdt,      CODE_sidt,
                                          CODE_sldt_memory, CODE_str_memory, CODE_mov_from_ds_memory};
    map(WINDOW, frame(0), PTE_P);
    for (u32 i = 0; i < ARRAY_SIZE(stores); i++) {
        struct regs in = prepare(&codes[stores[i]]);
        in.esi = WINDOW;
        report(stores[i], &in);
    }
    for (u32 i = 0; i < ARRAY_SIZE(by_edi); i++) {
        struct regs in = prepare(&codes[by_edi[i]]);
        in.edi = WINDOW;
        report(by_edi[i], &in);
    }
}

/* What pops from a stack whose next word crosses into nothing. */
TEST(operand, stack) {
    static const enum code_id pops[] = {CODE_popf,   CODE_pop_ss, CODE_pop_ds, CODE_pop_es,
                                        CODE_pop_fs, CODE_pop_gs, CODE_iret,   CODE_far_ret};
    map(WINDOW, frame(0), PTE_P | PTE_W);
    unmap(WINDOW + PAGE_SIZE);
    for (u32 i = 0; i < ARRAY_SIZE(pops); i++) {
        struct regs in = prepare(&codes[pops[i]]);
        in.esp = WINDOW + PAGE_SIZE - 2;
        report(pops[i], &in);
    }
}

/* The handler puts the page there, with what was wanted in it. */
static u8 wanted[16];
static u32 faults;
static bool supply(struct frame *frame_) {
    (void)frame_;
    u32 address = read_cr2() & ~(PAGE_SIZE - 1);
    if (address < WINDOW || address >= WINDOW + 2 * PAGE_SIZE)
        return false;
    faults++;
    map(address, frame(address == WINDOW ? 0 : 1), PTE_P | PTE_W);
    return true;
}
TEST(operand, supplied) {
    hooks[14] = supply;
    for (u32 i = 0; i < ARRAY_SIZE(by_esi); i++) {
        const struct code *code = &codes[by_esi[i]];
        if (by_esi[i] == CODE_lss)
            continue; /* its operand names the stack */
        struct regs in = prepare(code);
        memset(wanted, 0, sizeof wanted);
        if (in.esi >= (u32)page_directory && in.esi < IDENTITY_END)
            memcpy(wanted, (void *)in.esi, 8);
        /* Half of it in one page, half in the next. */
        in.esi = WINDOW + PAGE_SIZE - 4;
        memcpy((void *)(frame(0) + PAGE_SIZE - 4), wanted, 4);
        memcpy((void *)frame(1), wanted + 4, 4);
        unmap(WINDOW);
        unmap(WINDOW + PAGE_SIZE);
        faults = 0;
        run(code, &in);
        say_open();
        print("%s: ", code->name);
        print_outcome(code);
        print_changes(code, &in);
        print(" after %u faults\n", faults);
        clean_up();
        hooks[14] = supply;
    }
}

/* The descriptor itself lies in a page that is not there: the processor's own access. */
TEST(operand, descriptor_absent) {
    struct regs in = prepare(&codes[CODE_lldt]);
    set_descriptor(gdt[LDT_SELECTOR >> 3], WINDOW, 31, 0x82);
    unmap(WINDOW);
    run(&codes[CODE_lldt], &in);
    static const enum code_id ids[] = {CODE_mov_to_gs, CODE_pop_gs, CODE_lar};
    for (u32 i = 0; i < ARRAY_SIZE(ids); i++)
        for (u32 user = 0; user < 2; user++) {
            in = (user ? prepare_user : prepare)(&codes[ids[i]]);
            in.eax = 0xf;
            if (in.esp)
                *(u32 *)in.esp = 0xf;
            (user ? run_user : run)(&codes[ids[i]], &in);
            say_open();
            print("%s %s: ", user ? "user" : "kernel", codes[ids[i]].name);
            print_outcome(&codes[ids[i]]);
            print("\n");
        }
}

/* User stacks may end anywhere; the fault's own frame goes to the kernel's stack. */
TEST(operand, user_stack) {
    static const enum code_id ids[] = {CODE_push_eax, CODE_pushf,  CODE_push_ds, CODE_push_gs, CODE_pop_eax,
                                       CODE_popf,     CODE_pop_ds};
    for (u32 i = 0; i < ARRAY_SIZE(ids); i++) {
        struct regs in = inputs(&codes[ids[i]]);
        in.esp = WINDOW + PAGE_SIZE;
        unmap(WINDOW);
        run_user(&codes[ids[i]], &in);
        say_open();
        print("%s: ", codes[ids[i]].name);
        print_outcome(&codes[ids[i]]);
        print_changes(&codes[ids[i]], &in);
        print("\n");
    }
}
