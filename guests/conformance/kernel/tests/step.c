/*
 * Single-stepping: with TF set a #DB comes after every instruction. Places are
 * `start`, `end` or numbers of instructions, so that a slot's width is not seen.
 */
#include "../guest.h"

static const struct code *current;
extern const u8 trap_stubs[];
static u32 places[64], count, status;
static u32 in_handlers; /* an interrupt or exception clears TF, so none comes there */

static bool inside(u32 eip) {
    return (eip >= (u32)current->start && eip <= (u32)current->end) ||
           (eip >= (u32)current->user_start && eip <= (u32)current->user_end);
}
static bool on_debug(struct frame *frame) {
    u32 value;
    asm volatile("mov %%db6, %0; mov %1, %%db6" : "=&r"(value) : "r"(0xffff0ff0));
    if (inside(frame->eip)) {
        status |= value;
        if (count < ARRAY_SIZE(places))
            places[count] = frame->eip;
        count++;
    }
    if (frame->eip - (u32)trap_stubs < 256 * 16)
        in_handlers++;
    return true;
}
static bool pass(struct frame *frame) {
    (void)frame;
    return true;
}

static void step(enum code_id id, struct regs in, bool user) {
    current = &codes[id];
    hooks[1] = on_debug;
    hooks[GATE_TRAP] = pass;
    count = status = in_handlers = 0;
    in.eflags |= TF;
    (user ? run_user : run)(current, &in);
    say_open();
    print_outcome(current);
    print("; %u:", count);
    for (u32 i = 0, same; i < count && i < ARRAY_SIZE(places); i += same) {
        for (same = 1; i + same < count && i + same < ARRAY_SIZE(places) && places[i + same] == places[i]; same++)
            ;
        print(" ");
        print_place(current, places[i]);
        if (same > 1)
            print("*%u", same);
    }
    print(" dr6 %x", status & 0xe00f);
    if (in_handlers)
        print(", %u in handlers", in_handlers);
    print("\n");
    hooks[1] = NULL;
}

TEST(step_plain, nothing) {
    step(CODE_nothing, inputs(&codes[CODE_nothing]), false);
    step(CODE_nothing, inputs(&codes[CODE_nothing]), true);
}

/* Every kind of site in the kernel; sti and loads of SS hold the #DB back on some processors only. */
TEST(step, all) {
    for (enum code_id id = CODE_cli; id < CODE_SEQUENCES; id++) {
        if (codes[id].traits & TRAIT_ONCE || id == CODE_hlt || id == CODE_sysenter || id == CODE_sysexit ||
            id == CODE_sti || id == CODE_mov_to_ss || id == CODE_pop_ss || id == CODE_lss)
            continue;
        if (!subject(codes[id].name))
            continue;
        step(id, prepare(&codes[id]), false);
        clean_up();
    }
}

TEST(step_user, all) {
    static const enum code_id ids[] = {CODE_pushf, CODE_popf,    CODE_push_eax, CODE_cli,     CODE_int_trap,
                                       CODE_ud2,   CODE_rdtsc,   CODE_mov_to_fs, CODE_pop_gs, CODE_copy,
                                       CODE_inb};
    for (u32 i = 0; i < ARRAY_SIZE(ids); i++) {
        if (!subject(codes[ids[i]].name))
            continue;
        struct regs in = prepare_user(&codes[ids[i]]);
        if (ids[i] == CODE_copy) {
            in.esi = in.edi = USER_DATA;
            in.ecx = 4;
        }
        step(ids[i], in, true);
        clean_up();
    }
}

/* Loops: not one boundary is missed or invented. */
TEST(step_loop, all) {
    for (enum code_id id = CODE_loop_nothing; id < CODE_fnop; id++) {
        if (id == CODE_loop_mov_ss || id == CODE_loop_cli_sti)
            continue;
        if (!subject(codes[id].name))
            continue;
        struct regs in = prepare(&codes[id]);
        in.ebp = 2;
        if (id == CODE_loop_gs)
            asm volatile("mov %0, %%gs" : : "r"(TLS_A));
        if (id == CODE_loop_gs)
            in.esi = USER_DATA;
        step(id, in, false);
        clean_up();
    }
}

/* popf and iret set TF: the first #DB comes after the instruction that follows. */
TEST(step_plain, begins) {
    struct regs in = prepare(&codes[CODE_popf_nops]);
    *(u32 *)in.esp = FIXED | TF;
    current = &codes[CODE_popf_nops];
    hooks[1] = on_debug;
    count = status = 0;
    run(current, &in);
    say_open();
    print("popf %u:", count);
    for (u32 i = 0; i < count; i++) {
        print(" ");
        print_place(current, places[i]);
    }
    print("\n");
    in = prepare(&codes[CODE_iret_nops]);
    ((u32 *)in.esp)[2] = FIXED | TF;
    current = &codes[CODE_iret_nops];
    count = 0;
    run(current, &in);
    say_open();
    print("iret %u:", count);
    for (u32 i = 0; i < count; i++) {
        print(" ");
        print_place(current, places[i]);
    }
    print("\n");
}

/* An instruction that faults is not stepped over: its handler sees TF in the frame and runs without it. */
static u32 frame_flags, own_flags;
static bool on_fault(struct frame *frame) {
    frame_flags = frame->eflags;
    own_flags = flags();
    return false;
}
TEST(step_plain, faults) {
    static const enum code_id ids[] = {CODE_ud2, CODE_int_absent};
    hooks[6] = hooks[11] = on_fault;
    for (u32 i = 0; i < ARRAY_SIZE(ids); i++) {
        step(ids[i], prepare(&codes[ids[i]]), false);
        say("frame %f, handler %f", frame_flags & TF, own_flags & TF);
    }
}
