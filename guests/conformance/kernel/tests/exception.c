/* Exceptions that instructions raise, software interrupts, gates, and one within another. */
#include "../guest.h"

static void both(enum code_id id, const struct regs *in, const char *what) {
    for (u32 user = 0; user < 2; user++) {
        struct regs regs = *in;
        (user ? run_user : run)(&codes[id], &regs);
        say_open();
        print("%s %s: ", user ? "user" : "kernel", what);
        print_outcome(&codes[id]);
        print_changes(&codes[id], &regs);
        print("\n");
    }
}

static void print_case(const char *what, const struct code *code, const struct regs *in) {
    say_open();
    print("%s: ", what);
    print_outcome(code);
    print_changes(code, in);
    print("\n");
}

TEST(exception, int3) {
    struct regs in = inputs(&codes[CODE_int3]);
    both(CODE_int3, &in, "int3");
}
TEST(exception, into) {
    struct regs in = inputs(&codes[CODE_into]);
    both(CODE_into, &in, "without OF");
    in.eflags |= OF;
    both(CODE_into, &in, "with OF");
}
TEST(exception, bound) {
    u32 *bounds = (u32 *)USER_DATA;
    bounds[0] = 0x10;
    bounds[1] = 0x20;
    static const u32 values[] = {0x10, 0x20, 0xf, 0x21};
    for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
        struct regs in = inputs(&codes[CODE_bound]);
        in.eax = values[i];
        in.esi = USER_DATA;
        both(CODE_bound, &in, "bound");
    }
}
TEST(exception, ud2) {
    struct regs in = inputs(&codes[CODE_ud2]);
    both(CODE_ud2, &in, "ud2");
}
TEST(exception, divide) {
    struct regs in = inputs(&codes[CODE_divide]);
    in.ecx = 0;
    both(CODE_divide, &in, "by zero");
    in.ecx = 1; /* the quotient does not fit */
    both(CODE_divide, &in, "overflow");
    in.edx = 0;
    in.eflags = FIXED; /* div leaves flags undefined */
    run(&codes[CODE_divide], &in);
    say("fits: eax %x edx %x vector %d", result.regs.eax, result.regs.edx, result.vector);
}

/* A software interrupt through every kind of gate. */
TEST(exception, gates) {
    struct regs in = inputs(&codes[CODE_int_kernel]);
    both(CODE_int_kernel, &in, "gate of the kernel");
    both(CODE_int_absent, &in, "absent gate");
    both(CODE_int_trap, &in, "trap gate");
    static const struct {
        const char *what;
        u32 selector, attributes;
    } gates[] = {
        {"null selector", 0, 0xee},          {"data selector", KERNEL_DS, 0xee},
        {"beyond the table", BEYOND_GDT, 0xee}, {"absent code", ABSENT_CODE, 0xee},
        {"user code", USER_CS, 0xee},        {"not a gate", KERNEL_CS, 0xe2},
    };
    for (u32 i = 0; i < ARRAY_SIZE(gates); i++) {
        set_gate(GATE_TRAP, (u32)idt, gates[i].selector, gates[i].attributes);
        run(&codes[CODE_int_trap], &in);
        print_case(gates[i].what, &codes[CODE_int_trap], &in);
    }
    set_gate(GATE_TRAP, 0, SPARE_TSS, 0x85);
    run_user(&codes[CODE_int_trap], &in);
    print_case("user task gate of the kernel", &codes[CODE_int_trap], &in);
    set_gate(GATE_TRAP, 0, SPARE_TSS, 0x65);
    both(CODE_int_trap, &in, "absent task gate");
}

/* The gate of system calls closes, and opens again. */
TEST(exception, system_call_gate) {
    static const struct {
        const char *what;
        u32 attributes;
    } gates[] = {{"open", 0xee}, {"the kernel's", 0x8e}, {"absent", 0x6e}};
    const struct code *code = &codes[CODE_nothing];
    struct regs in = inputs(code);
    in.eflags |= IF; /* as user code has it, which a target may ask for on its short way */
    for (u32 i = 0; i < 2 * ARRAY_SIZE(gates); i++) {
        idt[GATE_SYSCALL][1] = (idt[GATE_SYSCALL][1] & 0xffff0000) | gates[i / 2].attributes << 8;
        run_user(code, &in);
        print_case(gates[i / 2].what, code, &in);
    }
    idt[GATE_SYSCALL][1] = (idt[GATE_SYSCALL][1] & 0xffff0000) | gates[0].attributes << 8;
    run_user(code, &in);
    print_case(gates[0].what, code, &in);
}

TEST(exception, table_limit) {
    operand_idt.limit = GATE_KERNEL * 8 - 1;
    asm volatile("lidt %0" : : "m"(operand_idt));
    struct regs in = inputs(&codes[CODE_int_kernel]);
    run(&codes[CODE_int_kernel], &in);
    say_result(&codes[CODE_int_kernel], &in, "beyond: ");
    operand_idt.limit = GATE_KERNEL * 8 + 7;
    asm volatile("lidt %0" : : "m"(operand_idt));
    run(&codes[CODE_int_kernel], &in);
    say_result(&codes[CODE_int_kernel], &in, "last entry: ");
}

/* The table moves: entries of the new one count. */
TEST(exception, table_moved) {
    static u32 other[256][2] __attribute__((aligned(16)));
    memcpy(other, idt, sizeof other);
    other[GATE_TRAP][1] &= ~0x8000u;
    struct table_register whole = operand_idt;
    operand_idt.base = (u32)other;
    struct regs in = inputs(&codes[CODE_lidt]);
    run(&codes[CODE_lidt], &in);
    in = inputs(&codes[CODE_int_trap]);
    run(&codes[CODE_int_trap], &in);
    say_result(&codes[CODE_int_trap], &in, "absent in the other: ");
    operand_idt = whole;
    asm volatile("lidt %0" : : "m"(operand_idt));
    run(&codes[CODE_int_trap], &in);
    say_result(&codes[CODE_int_trap], &in, "present in the first: ");
}

/* IF as a handler finds it: off through an interrupt gate, as it was through a trap gate. */
static u32 flags_in_handler, flags_in_frame;
static bool look(struct frame *frame) {
    flags_in_handler = flags();
    flags_in_frame = frame->eflags;
    return false;
}
TEST(exception, flags_in_handler) {
    hooks[GATE_TRAP] = hooks[GATE_KERNEL] = hooks[6] = look;
    static const enum code_id ids[] = {CODE_int_kernel, CODE_int_trap, CODE_ud2};
    for (u32 i = 0; i < ARRAY_SIZE(ids); i++)
        for (u32 n = 0; n < 2; n++) {
            struct regs in = inputs(&codes[ids[i]]);
            in.eflags = FIXED | NT | DF | CF | (n ? IF : 0);
            run(&codes[ids[i]], &in);
            say("%s %f: handler %f, frame %f", codes[ids[i]].name, in.eflags, flags_in_handler & (IF | NT | TF),
                flags_in_frame);
        }
}

/* Exceptions in handlers of exceptions, each returning by iret. */
static char order[64];
static u32 ordered;
static void note_order(char c) {
    if (ordered < sizeof order - 1)
        order[ordered++] = c;
    order[ordered] = 0;
}
static bool on_int3(struct frame *frame) {
    (void)frame;
    note_order('b');
    asm volatile("int %0" : : "i"(GATE_TRAP) : "memory");
    note_order('B');
    return true;
}
static bool on_trap_gate(struct frame *frame) {
    (void)frame;
    note_order('t');
    asm volatile("testl $0, %0" : : "m"(*(u32 *)(WINDOW + 8)) : "memory");
    note_order('T');
    return true;
}
static bool on_page_fault(struct frame *frame_) {
    (void)frame_;
    note_order('p');
    map(WINDOW, frame(0), PTE_P | PTE_W | PTE_U);
    note_order('P');
    return true;
}
static bool on_ud2(struct frame *frame) {
    note_order('u');
    asm volatile("int3" : : : "memory");
    frame->eip += 2;
    note_order('U');
    return true;
}
TEST(exception, nested) {
    for (u32 user = 0; user < 2; user++) {
        hooks[6] = on_ud2;
        hooks[3] = on_int3;
        hooks[GATE_TRAP] = on_trap_gate;
        hooks[14] = on_page_fault;
        unmap(WINDOW);
        ordered = 0;
        struct regs in = inputs(&codes[CODE_ud2]);
        (user ? run_user : run)(&codes[CODE_ud2], &in);
        say_open();
        print("%s: %s ", user ? "user" : "kernel", order);
        print_outcome(&codes[CODE_ud2]);
        print_changes(&codes[CODE_ud2], &in);
        print("\n");
    }
}

/* The handler changes the frame: where to go on, flags, and a register. */
static bool change_frame(struct frame *frame) {
    frame->eip += 2;
    frame->eflags |= CF | IF;
    frame->ebx = 0xb0b;
    return true;
}
TEST(exception, changed_frame) {
    hooks[6] = change_frame;
    struct regs in = inputs(&codes[CODE_ud2]);
    both(CODE_ud2, &in, "resumed");
}
