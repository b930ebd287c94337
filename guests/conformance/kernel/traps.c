/* Where every exception and interrupt arrives, and what a run has ended with. */
#include "guest.h"

struct result result;
hook_t hooks[256];

static bool running;
static u32 user_fs, user_gs;

void run_enter(const struct regs *in);
void run_user_enter(const struct regs *in, u32 fs, u32 gs);
void run_leave(void) __attribute__((noreturn));
void trap(struct frame *frame);

static const char *const names[] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "COP",
                                    "#TS", "#NP", "#SS", "#GP", "#PF", "15",  "#MF", "#AC", "#MC", "#XM"};

static bool has_error(u32 vector) { return vector == 8 || vector == 17 || (vector >= 10 && vector <= 14); }

static void print_vector(u32 vector, u32 error, u32 cr2) {
    if (vector >= ARRAY_SIZE(names)) {
        print("vector %x", vector);
        return;
    }
    print("%s", names[vector]);
    if (has_error(vector))
        print("(%x)", error);
    if (vector == 14)
        print(" at %X", cr2);
}

void trap(struct frame *frame) {
    if (hooks[frame->vector] && hooks[frame->vector](frame))
        return;
    if (running) {
        bool end = frame->vector == GATE_SYSCALL && from_user(frame);
        end_run(frame, end ? NO_VECTOR : (s32)frame->vector);
    }
    say_open();
    print("unexpected ");
    print_vector(frame->vector, frame->error, read_cr2());
    print("\n");
    note("eip %X cs %x eflags %X eax %X ecx %X edx %X ebx %X esi %X edi %X", frame->eip, frame->cs,
         frame->eflags, frame->eax, frame->ecx, frame->edx, frame->ebx, frame->esi, frame->edi);
    jump_to_runner();
}

void end_run(struct frame *frame, s32 vector) {
    bool user = from_user(frame);
    result.regs = (struct regs){
        .eax = frame->eax,
        .ecx = frame->ecx,
        .edx = frame->edx,
        .ebx = frame->ebx,
        .esp = user ? frame->esp : (u32)&frame->esp,
        .ebp = frame->ebp,
        .esi = frame->esi,
        .edi = frame->edi,
        .eip = vector == NO_VECTOR ? frame->eip - 2 : frame->eip, /* the int that ends the run */
        .eflags = frame->eflags,
    };
    result.vector = vector;
    result.error = frame->error;
    result.cr2 = vector == 14 ? read_cr2() : 0;
    result.cs = (u16)frame->cs;
    result.ss = user ? (u16)frame->ss : KERNEL_DS;
    result.ds = (u16)frame->ds;
    result.es = (u16)frame->es;
    result.fs = (u16)frame->fs;
    result.gs = (u16)frame->gs;
    running = false;
    run_leave();
}

void abandon_run(void) { running = false; }

void run(const struct code *code, const struct regs *in) {
    struct regs regs = *in;
    regs.eip = (u32)code->start;
    if (!regs.esp)
        regs.esp = (u32)scratch_stack + sizeof scratch_stack;
    running = true;
    run_enter(&regs);
    if (running) /* not by way of a trap */
        result.regs.eip = (u32)code->end;
    running = false;
}

void set_user_segments(u32 fs, u32 gs) {
    user_fs = fs;
    user_gs = gs;
}

void run_user(const struct code *code, const struct regs *in) {
    struct regs regs = *in;
    regs.eip = (u32)code->user_start;
    if (!regs.esp)
        regs.esp = USER_STACK_TOP;
    running = true;
    run_user_enter(&regs, user_fs, user_gs);
    running = false;
}

struct regs inputs(const struct code *code) { return code->in; }

void push_words(struct regs *regs, u32 count, const u32 *words) {
    if (!regs->esp)
        regs->esp = (u32)scratch_stack + sizeof scratch_stack;
    while (count--) {
        regs->esp -= 4;
        *(u32 *)regs->esp = words[count];
    }
}

/* The padding of a slot that prefixes cannot fill: NOPs in front of the instruction. */
static bool only_nops(const u8 *from, const u8 *to) {
    while (from < to)
        if (*from++ != 0x90)
            return false;
    return true;
}

extern const u32 marks[], marks_end[], user_marks[], user_marks_end[];

s32 mark_index(const struct code *code, u32 eip) {
    bool user = eip >= USER_CODE;
    u32 start = (u32)(user ? code->user_start : code->start), end = (u32)(user ? code->user_end : code->end);
    s32 index = -1;
    u32 last = 0;
    for (const u32 *mark = user ? user_marks : marks; mark < (user ? user_marks_end : marks_end); mark++)
        if (*mark >= start && *mark < end && *mark <= eip) {
            last = *mark;
            index++;
        }
    return eip < end && last && only_nops((const u8 *)last, (const u8 *)eip) ? index : -1;
}

u32 mark_address(const struct code *code, u32 index) {
    for (const u32 *mark = marks; mark < marks_end; mark++)
        if (*mark >= (u32)code->start && *mark < (u32)code->end && !index--)
            return *mark;
    return 0;
}

static const char *place_between(const u8 *start, const u8 *end, u32 eip) {
    const u8 *at = (const u8 *)eip;
    if (at == end)
        return "end";
    if (at >= start && at < end && only_nops(start, at))
        return "start";
    return "elsewhere";
}

void print_place(const struct code *code, u32 eip) {
    s32 index = mark_index(code, eip);
    if (index >= 0)
        print("%u", index);
    else
        print("%s", place(code, eip));
}

const char *place(const struct code *code, u32 eip) {
    return eip >= USER_CODE ? place_between(code->user_start, code->user_end, eip)
                            : place_between(code->start, code->end, eip);
}

void print_outcome(const struct code *code) {
    if (result.vector == NO_VECTOR) {
        const char *where = place(code, result.regs.eip);
        print("ok");
        if (where[0] != 'e' || where[1] != 'n')
            print(" ended %s", where);
        return;
    }
    print_vector((u32)result.vector, result.error, result.cr2);
    print(", eip at %s", place(code, result.regs.eip));
}

/* A register that points somewhere: by how much it moved, unless it points elsewhere altogether. */
static void print_moved(const char *name, u32 before, u32 now) {
    s32 distance = (s32)(now - before);
    if (distance > -0x10000 && distance < 0x10000)
        print(" %s%s%d", name, distance > 0 ? "+" : "", distance);
    else
        print(" %s=%x", name, now);
}

void print_changes(const struct code *code, const struct regs *in) {
    struct regs before = *in;
    if (!before.esp)
        before.esp = (result.cs & 3) == 3 ? USER_STACK_TOP : (u32)scratch_stack + sizeof scratch_stack;
    const struct regs *now = &result.regs;
    if (now->eax != before.eax && !(code->hide & HIDE_EAX))
        print(" eax=%x", now->eax);
    if (now->ecx != before.ecx && !(code->hide & HIDE_ECX))
        print(" ecx=%x", now->ecx);
    if (now->edx != before.edx && !(code->hide & HIDE_EDX))
        print(" edx=%x", now->edx);
    if (now->ebx != before.ebx && !(code->hide & HIDE_EBX))
        print(" ebx=%x", now->ebx);
    if (now->esp != before.esp)
        print_moved("esp", before.esp, now->esp);
    if (now->ebp != before.ebp)
        print(" ebp=%x", now->ebp);
    if (now->esi != before.esi)
        print_moved("esi", before.esi, now->esi);
    if (now->edi != before.edi)
        print_moved("edi", before.edi, now->edi);
    if ((now->eflags ^ before.eflags) & ~RF)
        print(" flags=%f", now->eflags);
}

void say_result(const struct code *code, const struct regs *in, const char *prefix) {
    say_open();
    print("%s", prefix);
    print_outcome(code);
    print_changes(code, in);
    print("\n");
}
