/*
 * Kernel code that no annotator has seen: the user program's copy of each
 * privileged instruction, run in the kernel. Without a site it works by a trap.
 */
#include "../guest.h"

static bool end_of_run(struct frame *frame) { end_run(frame, NO_VECTOR); }

static void trapped(enum code_id id) {
    hooks[GATE_SYSCALL] = end_of_run;
    const struct code *code = &codes[id];
    struct code copy = *code;
    copy.start = code->user_start;
    copy.end = code->user_end;
    struct regs in = prepare(code);
    run(&copy, &in);
    say_result(&copy, &in, "");
}

TEST(trapped, all) {
    static const enum code_id ids[] = {
        CODE_cli,         CODE_sti,         CODE_mov_from_cr0, CODE_mov_from_cr2, CODE_mov_from_cr3,  CODE_mov_from_cr4,
        CODE_mov_to_cr0,  CODE_mov_to_cr2,  CODE_mov_to_cr3,   CODE_mov_to_cr4,   CODE_mov_from_dr7,  CODE_mov_to_dr7,
        CODE_clts,        CODE_lmsw,        CODE_lgdt,         CODE_lidt,         CODE_lldt,          CODE_invlpg,
        CODE_wbinvd,      CODE_rdmsr,       CODE_wrmsr,        CODE_inb,          CODE_inw,           CODE_inl,
        CODE_outb,        CODE_outw,        CODE_outl,         CODE_insb,         CODE_outsb,         CODE_rep_insb,
        CODE_rep_outsb,   CODE_ud2,         CODE_int3,         CODE_int_absent,
    };
    for (u32 i = 0; i < ARRAY_SIZE(ids); i++) {
        if (!subject(codes[ids[i]].name))
            continue;
        trapped(ids[i]);
        clean_up();
    }
}
