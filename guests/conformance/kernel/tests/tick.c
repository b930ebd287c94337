/*
 * Loops of every kind of site under a fast timer: wherever an interrupt comes,
 * registers, stack and flags are as without it, and the saved EIP is the start
 * of an instruction.
 */
#include "../guest.h"

enum {
    ROUNDS = 3000,
    WANTED = 25,
    LEAST_RUNS = 1000,
    MOST_RUNS = 20000,
    MOST_TICKS = 5000,
    HOPELESS = 1000,
    PERIOD = 150, /* counts of the timer: 126 us */
};

static const struct code *current;
static u32 ticks, inside, outside_boundary, in_shadow;

/* Instructions of which none may be interrupted before: interrupts are off there, or held back. */
static const struct {
    enum code_id id;
    u32 instructions; /* a bit each */
} shadows[] = {
    {CODE_loop_cli_sti, 1 << 2 | 1 << 3},
    {CODE_loop_save_restore, 1 << 3},
    {CODE_loop_mov_ss, 1 << 2},
};

static bool on_tick(struct frame *frame) {
    ticks++;
    outb(0x20, 0x20);
    u32 eip = frame->eip;
    bool user = from_user(frame);
    u32 start = (u32)(user ? current->user_start : current->start);
    u32 end = (u32)(user ? current->user_end : current->end);
    if (eip < start || eip > end)
        return true;
    inside++;
    s32 index = mark_index(current, eip);
    for (u32 i = 0; i < ARRAY_SIZE(shadows); i++)
        if (!user && index >= 0 && current == &codes[shadows[i].id] && shadows[i].instructions >> index & 1)
            in_shadow++;
    if (eip != end && index < 0) {
        if (!outside_boundary)
            note("saved eip %X is %d bytes into %s", eip, eip - start, current->name);
        outside_boundary++;
    }
    return true;
}
static bool pass(struct frame *frame) {
    (void)frame;
    return true;
}

static void forget_time_stamp(struct result *of) {
    if (current->hide & HIDE_EAX)
        of->regs.eax = 0;
    if (current->hide & HIDE_EDX)
        of->regs.edx = 0;
}

static struct regs input(enum code_id id, bool user) {
    struct regs in = (user ? prepare_user : prepare)(&codes[id]);
    in.eflags |= IF;
    in.ebp = ROUNDS;
    in.ebx = 0;
    operand_far[0] = 0x1234;
    operand_far[1] = TLS_A;
    if (id == CODE_loop_gs)
        in.esi = USER_DATA;
    return in;
}

static void enter(enum code_id id, bool user, const struct regs *in) {
    if (id == CODE_loop_gs && !user)
        asm volatile("mov %0, %%gs" : : "r"(TLS_A));
    (user ? run_user : run)(&codes[id], in);
    forget_time_stamp(&result);
}

static void under_timer(enum code_id id, bool user) {
    current = &codes[id];
    hooks[IRQ_VECTOR] = on_tick;
    hooks[GATE_TRAP] = pass;
    if (user)
        set_user_segments(TLS_A, TLS_A);
    struct regs in = input(id, user);
    enter(id, user, &in);
    struct result quiet = result;

    ticks = inside = outside_boundary = in_shadow = 0;
    outb(0x43, 0x34); /* counter 0, mode 2 */
    outb(0x40, (u8)PERIOD);
    outb(0x40, (u8)(PERIOD >> 8));
    outb(0x21, 0xfe);
    u32 runs = 0, different = 0;
    /* Some emulators never interrupt a loop as short as these. */
    while (inside < WANTED * stress && runs < MOST_RUNS * stress &&
           (runs < LEAST_RUNS || ticks < (inside ? MOST_TICKS : HOPELESS) * stress)) {
        runs++;
        in = input(id, user);
        enter(id, user, &in);
        if (memcmp(&quiet, &result, sizeof quiet) != 0) {
            if (!different)
                note("eax %X/%X ecx %X/%X edx %X/%X ebx %X/%X esp %X/%X ebp %X/%X esi %X/%X edi %X/%X eip %X/%X "
                     "eflags %X/%X vector %d/%d",
                     result.regs.eax, quiet.regs.eax, result.regs.ecx, quiet.regs.ecx, result.regs.edx, quiet.regs.edx,
                     result.regs.ebx, quiet.regs.ebx, result.regs.esp, quiet.regs.esp, result.regs.ebp, quiet.regs.ebp,
                     result.regs.esi, quiet.regs.esi, result.regs.edi, quiet.regs.edi, result.regs.eip, quiet.regs.eip,
                     result.regs.eflags, quiet.regs.eflags, result.vector, quiet.vector);
            different++;
        }
    }
    outb(0x21, 0xff);
    say_open();
    print_outcome(current);
    print(", different results %u, saved eips inside an instruction %u, where none may come %u, carry kept %u\n", different,
          outside_boundary, in_shadow, result.regs.ebx);
    /* How many it takes is a matter of chance, so no line that is compared. */
    note("%s: %s: %u of %u interrupts in %u runs", current->name, inside >= WANTED * stress ? "enough" : "too few",
         inside, ticks, runs);
}

TEST(tick, all) {
    for (enum code_id id = CODE_loop_nothing; id < CODE_fnop; id++) {
        if (!subject(codes[id].name))
            continue;
        under_timer(id, false);
        clean_up();
    }
}

TEST(tick_user, all) {
    static const enum code_id ids[] = {CODE_loop_nothing, CODE_loop_pushf_popf, CODE_loop_push_pop_seg,
                                       CODE_loop_int,     CODE_loop_gs,         CODE_loop_rdtsc};
    for (u32 i = 0; i < ARRAY_SIZE(ids); i++) {
        if (!subject(codes[ids[i]].name))
            continue;
        under_timer(ids[i], true);
        clean_up();
    }
}
