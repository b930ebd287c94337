/*
 * Changes of control that the hardware makes: into the guest's handlers
 * through its IDT, and back out of them (SDM vol. 3A, 6.12 to 6.14; vol. 2,
 * IRET, RET, CALL, JMP).
 *
 * Every function first reads all it needs and only then changes the virtual
 * CPU, so that a fault on the way leaves it as it was.
 */

#include "cpu.h"

#include "devices/devices.h"
#include "mmu/mmu.h"
#include "crash.h"
#include "port.h"

/* A stack being pushed to or popped from; committed to ESP at the end. */
struct stack {
    u32 base;
    u32 esp;
    u32 mask; /* 0xffff for a 16-bit stack segment */
    access_t access;
};

static struct stack stack_of(const struct segment *ss, u32 esp, unsigned cpl) {
    return (struct stack){
        .base = ss->base,
        .esp = esp,
        .mask = ss->attributes & ATTR_BIG ? 0xffffffff : 0xffff,
        .access = cpl == 3 ? PF_USER : 0,
    };
}

static bool push(struct stack *stack, u32 value, unsigned size) {
    u32 esp = (stack->esp & ~stack->mask) | ((stack->esp - size) & stack->mask);
    if (!guest_write(gva(stack->base + (esp & stack->mask)), &value, size, stack->access))
        return false;
    stack->esp = esp;
    return true;
}

static bool pop(struct stack *stack, u32 *value, unsigned size) {
    *value = 0;
    if (!guest_read(gva(stack->base + (stack->esp & stack->mask)), value, size, stack->access))
        return false;
    stack->esp = (stack->esp & ~stack->mask) | ((stack->esp + size) & stack->mask);
    return true;
}

#define FRAME 6u

/* Whether so many words, from an address on, can be copied at once. */
static bool plain_frame(const struct stack *stack, u32 esp, u32 count, unsigned size) {
    u32 at = stack->base + esp;
    return size == 4 && stack->mask == 0xffffffff && ((at ^ (at + count * 4 - 1)) & PAGE_MASK) == 0;
}

/* Pushes in order, at once where that comes to the same. */
static bool push_frame(struct stack *stack, const u32 *values, u32 count, unsigned size) {
    u32 esp = stack->esp - count * 4, words[FRAME];
    for (u32 i = 0; i < count; i++)
        words[i] = values[count - 1 - i];
    if (plain_frame(stack, esp, count, size) && guest_write(gva(stack->base + esp), words, count * 4, stack->access)) {
        stack->esp = esp;
        return true;
    }
    for (u32 i = 0; i < count; i++)
        if (!push(stack, values[i], size))
            return false;
    return true;
}

static bool pop_frame(struct stack *stack, u32 *values, u32 count, unsigned size) {
    if (plain_frame(stack, stack->esp, count, size) &&
        guest_read(gva(stack->base + stack->esp), values, count * 4, stack->access)) {
        stack->esp += count * 4;
        return true;
    }
    for (u32 i = 0; i < count; i++)
        if (!pop(stack, &values[i], size))
            return false;
    return true;
}

/* The inner stack of a privilege level, from the TSS. */
static bool tss_stack(unsigned level, u16 *ss, u32 *esp) {
    u32 word, words[2];
    if (cpu.tr.attributes & 8) { /* 32-bit TSS */
        if (level * 8 + 11 > cpu.tr.limit)
            return raise(VECTOR_TS, cpu.tr.selector & ~3u);
        if (!guest_read(gva(cpu.tr.base + 4 + level * 8), words, 8, 0))
            return false;
        *esp = words[0];
        word = words[1];
    } else {
        if (level * 4 + 5 > cpu.tr.limit)
            return raise(VECTOR_TS, cpu.tr.selector & ~3u);
        *esp = 0;
        word = 0;
        if (!guest_read(gva(cpu.tr.base + 2 + level * 4), esp, 2, 0) ||
            !guest_read(gva(cpu.tr.base + 4 + level * 4), &word, 2, 0))
            return false;
    }
    *ss = word;
    return true;
}

/* Checks a stack selector out of the TSS for a new privilege level. */
static bool inner_stack_segment(u16 selector, unsigned level, struct segment *ss) {
    u32 words[2];
    u32 error = selector & ~3u;
    if (!(selector & ~3u))
        return raise(VECTOR_TS, 0);
    if (!cpu_read_descriptor(selector, words))
        return exception.vector == VECTOR_GP ? raise(VECTOR_TS, error) : false;
    u16 attributes = descriptor_attributes(words);
    if ((selector & 3) != level || dpl(attributes) != level || !(attributes & ATTR_S) ||
        (attributes & ATTR_CODE) || !(attributes & ATTR_WRITABLE))
        return raise(VECTOR_TS, error);
    if (!(attributes & ATTR_PRESENT))
        return raise(VECTOR_SS, error);
    cpu_set_segment(ss, selector, words);
    return true;
}

struct entry {
    u8 vector;
    bool software; /* int n: the gate's DPL counts */
    bool external;
    bool has_error;
    u32 error;
};

static bool enter(const struct entry *entry) {
    u32 gate[2];
    u32 gate_error = entry->vector * 8u + 2 + entry->external;
    if (entry->vector * 8u + 7 > cpu.idtr.limit)
        return raise(VECTOR_GP, gate_error);
    if (!guest_read(gva(cpu.idtr.base + entry->vector * 8u), gate, 8, 0))
        return false;
    unsigned type = gate[1] >> 8 & 0x1f;
    bool task = type == 5;
    if (!task && (type & ~8u & ~1u) != 6) /* 6, 7, e, f: interrupt and trap gates of 16 and 32 bits */
        return raise(VECTOR_GP, gate_error);
    if (entry->software && (gate[1] >> 13 & 3) < cpu.cpl)
        return raise(VECTOR_GP, gate_error);
    if (!(gate[1] & 0x8000))
        return raise(VECTOR_NP, gate_error);
    if (task)
        crash("a task gate for vector %u, which is not supported", entry->vector);
    unsigned size = type & 8 ? 4 : 2;
    u16 selector = gate[0] >> 16;
    u32 offset = (gate[0] & 0xffff) | (size == 4 ? gate[1] & 0xffff0000 : 0);

    u32 code[2];
    u32 error = (selector & ~3u) | entry->external;
    if (!(selector & ~3u))
        return raise(VECTOR_GP, entry->external);
    if (!cpu_read_descriptor(selector, code))
        return exception.vector == VECTOR_GP ? raise(VECTOR_GP, error) : false;
    u16 attributes = descriptor_attributes(code);
    if (!(attributes & ATTR_S) || !(attributes & ATTR_CODE) || dpl(attributes) > cpu.cpl)
        return raise(VECTOR_GP, error);
    if (!(attributes & ATTR_PRESENT))
        return raise(VECTOR_NP, error);

    bool inner = !(attributes & ATTR_CONFORMING) && dpl(attributes) < cpu.cpl;
    unsigned level = inner ? dpl(attributes) : cpu.cpl;
    struct segment ss = cpu.segments[SS];
    u32 esp = cpu.gpr[ESP];
    if (inner) {
        u16 stack_selector = 0;
        if (!tss_stack(level, &stack_selector, &esp) || !inner_stack_segment(stack_selector, level, &ss))
            return false;
    }
    struct stack stack = stack_of(&ss, esp, level);
    u32 flags = cpu_flags(), outer = inner ? 0 : 2;
    const u32 frame[FRAME] = {cpu.segments[SS].selector, cpu.gpr[ESP], flags,
                              cpu.segments[CS].selector, cpu.eip,      entry->error};
    if (!push_frame(&stack, frame + outer, FRAME - outer - !entry->has_error, size))
        return false;

    cpu.segments[SS] = ss;
    cpu.gpr[ESP] = stack.esp;
    cpu_set_segment(&cpu.segments[CS], (selector & ~3u) | level, code);
    cpu.cpl = level;
    cpu.eip = offset;
    flags &= ~(u32)(FLAG_TF | FLAG_NT | FLAG_RF | FLAG_VM);
    if (!(type & 1))
        flags &= ~(u32)FLAG_IF;
    cpu_set_flags(flags);
    cpu.shadow = 0;
    cpu.halted = 0;
    return true;
}

/* Classes of exceptions for the double-fault rule (SDM vol. 3A, table 6-5). */
static bool contributory(u8 vector) {
    return vector == VECTOR_DE || (vector >= VECTOR_TS && vector <= VECTOR_GP);
}

static bool doubles(u8 first, u8 second) {
    if (contributory(first))
        return contributory(second);
    return first == VECTOR_PF && (second == VECTOR_PF || contributory(second));
}

static void enter_or_fault(struct entry entry) {
    u8 first = entry.vector;
    bool nested = false;
    while (!enter(&entry)) {
        if (first == VECTOR_DF) {
            if (cpu.idtr.limit < VECTOR_DF * 8 + 7)
                port_reset(); /* an empty IDT is how kernels reset a machine */
            crash("triple fault");
        }
        bool hard = nested || !entry.external || contributory(entry.vector) || entry.vector == VECTOR_PF;
        u8 vector = hard && doubles(first, exception.vector) ? VECTOR_DF : exception.vector;
        entry = (struct entry){
            .vector = vector,
            .external = true,
            .has_error = vector == VECTOR_DF || exception.has_error,
            .error = vector == VECTOR_DF ? 0 : exception.error,
        };
        if (vector == VECTOR_PF)
            cpu.cr2 = exception.cr2;
        first = vector;
        nested = true;
    }
}

void cpu_deliver_exception(const struct exception *cause) {
    trace(TRACE_EXCEPTION, cpu.eip, cause->vector | cause->error << 8);
    if (cause->vector == VECTOR_PF)
        cpu.cr2 = cause->cr2;
    /* Faults set RF in the saved flags; traps and aborts do not. Linux and QEMU ignore it without breakpoints. */
    enter_or_fault((struct entry){
        .vector = cause->vector,
        .has_error = cause->has_error,
        .error = cause->error,
    });
}

static void deliver_interrupt(u8 vector) {
    trace(TRACE_INTERRUPT, cpu.eip, vector);
    enter_or_fault((struct entry){.vector = vector, .external = true});
}

bool cpu_software_interrupt(u8 vector) {
    struct entry entry = {.vector = vector, .software = true};
    return enter(&entry);
}

bool cpu_poll_interrupts(void) {
    if (!cpu.interrupt_flag || cpu.shadow || !devices_interrupt_pending())
        return false;
    deliver_interrupt(devices_interrupt_acknowledge());
    return true;
}

/* --- Returns and far transfers --- */

/* Checks a code selector for a return to `rpl >= cpl`. */
static bool return_code_segment(u16 selector, u32 words[2]) {
    u32 error = selector & ~3u;
    unsigned rpl = selector & 3;
    if (!(selector & ~3u))
        return raise(VECTOR_GP, 0);
    if (!cpu_read_descriptor(selector, words))
        return false;
    u16 attributes = descriptor_attributes(words);
    if (!(attributes & ATTR_S) || !(attributes & ATTR_CODE) || rpl < cpu.cpl)
        return raise(VECTOR_GP, error);
    if (attributes & ATTR_CONFORMING ? dpl(attributes) > rpl : dpl(attributes) != rpl)
        return raise(VECTOR_GP, error);
    if (!(attributes & ATTR_PRESENT))
        return raise(VECTOR_NP, error);
    return true;
}

static bool return_stack_segment(u16 selector, unsigned rpl, u32 words[2]) {
    u32 error = selector & ~3u;
    if (!(selector & ~3u))
        return raise(VECTOR_GP, 0);
    if (!cpu_read_descriptor(selector, words))
        return false;
    u16 attributes = descriptor_attributes(words);
    if ((selector & 3) != rpl || !(attributes & ATTR_S) || (attributes & ATTR_CODE) ||
        !(attributes & ATTR_WRITABLE) || dpl(attributes) != rpl)
        return raise(VECTOR_GP, error);
    if (!(attributes & ATTR_PRESENT))
        return raise(VECTOR_SS, error);
    return true;
}

/* Data segments that the outer level may not use become null (SDM vol. 2, IRET). */
static void drop_inner_segments(void) {
    static const enum segment_register data[] = {ES, DS, FS, GS};
    for (unsigned i = 0; i < ARRAY_SIZE(data); i++) {
        struct segment *segment = &cpu.segments[data[i]];
        bool conforming = (segment->attributes & (ATTR_CODE | ATTR_CONFORMING)) == (ATTR_CODE | ATTR_CONFORMING);
        if ((segment->selector & ~3u) && !conforming && dpl(segment->attributes) < cpu.cpl)
            *segment = (struct segment){0};
    }
}

/* Where a return goes; the outer stack is popped here too. */
static bool return_to(struct stack *stack, u32 eip, u16 cs, unsigned size, u32 release) {
    u32 code[2], data[2], to[2];
    unsigned rpl = cs & 3;
    if (!return_code_segment(cs, code))
        return false;
    stack->esp += release;
    bool outer = rpl > cpu.cpl;
    if (outer) {
        if (!pop_frame(stack, to, 2, size))
            return false;
        if (!return_stack_segment(to[1], rpl, data))
            return false;
        cpu_set_segment(&cpu.segments[SS], to[1], data);
        cpu.gpr[ESP] = to[0] + release;
    } else {
        cpu.gpr[ESP] = stack->esp;
    }
    cpu_set_segment(&cpu.segments[CS], cs, code);
    cpu.eip = eip;
    if (outer) {
        cpu.cpl = rpl;
        drop_inner_segments();
    }
    return true;
}

/* iret with NT set goes back to the task that the TSS links to: only its refusals are done here. */
static bool nested_task_return(void) {
    u16 link;
    u32 words[2] = {0};
    if (!guest_read(gva(cpu.tr.base), &link, 2, 0))
        return false;
    exception.vector = 0;
    bool readable = !(link & 4) && cpu_read_descriptor(link, words);
    if (!readable && exception.vector == VECTOR_PF)
        return false;
    bool busy_task = (words[1] >> 8 & 0x17) == 3;
    if (!readable || !busy_task)
        return raise(VECTOR_TS, link & ~3u);
    crash("iret to task %x: hardware task switches are not supported", link);
}

bool cpu_iret(unsigned size) {
    if (cpu_flags() & FLAG_NT)
        return nested_task_return();
    struct stack stack = stack_of(&cpu.segments[SS], cpu.gpr[ESP], cpu.cpl);
    u32 frame[3];
    if (!pop_frame(&stack, frame, 3, size))
        return false;
    u32 eip = frame[0], cs = frame[1], flags = frame[2];
    if (size == 4 && (flags & FLAG_VM) && cpu.cpl == 0)
        crash("iret to virtual-8086 mode, which is not supported");
    u32 old = cpu_flags();
    u32 mask = FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_TF | FLAG_DF | FLAG_OF | FLAG_NT;
    if (size == 4)
        mask |= FLAG_RF | FLAG_AC | FLAG_ID;
    if (cpu.cpl <= cpu_iopl())
        mask |= FLAG_IF;
    if (cpu.cpl == 0)
        mask |= FLAG_IOPL;
    if (!return_to(&stack, eip, cs, size, 0))
        return false;
    cpu_set_flags((old & ~mask) | (flags & mask));
    return true;
}

bool cpu_far_return(unsigned size, u32 release) {
    struct stack stack = stack_of(&cpu.segments[SS], cpu.gpr[ESP], cpu.cpl);
    u32 eip, cs;
    if (!pop(&stack, &eip, size) || !pop(&stack, &cs, size))
        return false;
    return return_to(&stack, eip, cs, size, release);
}

/* Where a far call or jump goes: straight to a code segment, or through a call gate (SDM vol. 3A, 5.8). */
struct far_target {
    u16 selector;
    u32 offset;
    u32 code[2];
    bool gate;
    unsigned size;       /* of what a call pushes */
    unsigned parameters; /* that a gate copies to an inner stack */
};

static bool far_gate(u16 selector, const u32 gate[2], struct far_target *target) {
    u32 error = selector & ~3u;
    unsigned type = gate[1] >> 8 & ATTR_TYPE, gate_dpl = gate[1] >> 13 & 3;
    bool task = type == 5 || type == 1 || type == 9;
    if ((!task && type != 4 && type != 12) || gate_dpl < cpu.cpl || gate_dpl < (selector & 3u))
        return raise(VECTOR_GP, error);
    if (!(gate[1] & ATTR_PRESENT << 8))
        return raise(VECTOR_NP, error);
    if (task)
        crash("a task switch through selector %x, which is not supported", selector);
    *target = (struct far_target){
        .selector = gate[0] >> 16,
        .offset = (gate[0] & 0xffff) | (type == 12 ? gate[1] & 0xffff0000 : 0),
        .gate = true,
        .size = type == 12 ? 4 : 2,
        .parameters = gate[1] & 31,
    };
    if (!(target->selector & ~3u))
        return raise(VECTOR_GP, 0);
    if (!cpu_read_descriptor(target->selector, target->code))
        return false;
    u16 attributes = descriptor_attributes(target->code);
    error = target->selector & ~3u;
    if (!(attributes & ATTR_S) || !(attributes & ATTR_CODE) || dpl(attributes) > cpu.cpl)
        return raise(VECTOR_GP, error);
    if (!(attributes & ATTR_PRESENT))
        return raise(VECTOR_NP, error);
    return true;
}

static bool far_target(u16 selector, u32 offset, unsigned size, struct far_target *target) {
    u32 error = selector & ~3u;
    if (!(selector & ~3u))
        return raise(VECTOR_GP, 0);
    *target = (struct far_target){.selector = selector, .offset = offset, .size = size};
    if (!cpu_read_descriptor(selector, target->code))
        return false;
    u16 attributes = descriptor_attributes(target->code);
    if (!(attributes & ATTR_S)) {
        u32 gate[2] = {target->code[0], target->code[1]};
        return far_gate(selector, gate, target);
    }
    if (!(attributes & ATTR_CODE))
        return raise(VECTOR_GP, error);
    if (attributes & ATTR_CONFORMING ? dpl(attributes) > cpu.cpl
                                     : (selector & 3u) > cpu.cpl || dpl(attributes) != cpu.cpl)
        return raise(VECTOR_GP, error);
    if (!(attributes & ATTR_PRESENT))
        return raise(VECTOR_NP, error);
    return true;
}

bool cpu_far_jump(u16 selector, u32 offset) {
    struct far_target target;
    if (!far_target(selector, offset, 4, &target))
        return false;
    u16 attributes = descriptor_attributes(target.code);
    if (target.gate && !(attributes & ATTR_CONFORMING) && dpl(attributes) != cpu.cpl)
        return raise(VECTOR_GP, target.selector & ~3u);
    cpu_set_segment(&cpu.segments[CS], (target.selector & ~3u) | cpu.cpl, target.code);
    cpu.eip = target.offset;
    return true;
}

bool cpu_far_call(u16 selector, u32 offset, unsigned operand_size) {
    struct far_target target;
    if (!far_target(selector, offset, operand_size, &target))
        return false;
    u16 attributes = descriptor_attributes(target.code);
    unsigned size = target.size;
    bool inner = target.gate && !(attributes & ATTR_CONFORMING) && dpl(attributes) < cpu.cpl;
    unsigned level = inner ? dpl(attributes) : cpu.cpl;
    struct segment ss = cpu.segments[SS];
    struct stack outer = stack_of(&ss, cpu.gpr[ESP], cpu.cpl), stack = outer;
    if (inner) {
        u16 stack_selector = 0;
        u32 esp;
        if (!tss_stack(level, &stack_selector, &esp) || !inner_stack_segment(stack_selector, level, &ss))
            return false;
        stack = stack_of(&ss, esp, level);
        if (!push(&stack, cpu.segments[SS].selector, size) || !push(&stack, cpu.gpr[ESP], size))
            return false;
        for (unsigned i = target.parameters; i-- > 0;) {
            struct stack parameter = outer;
            u32 value;
            parameter.esp += i * size;
            if (!pop(&parameter, &value, size) || !push(&stack, value, size))
                return false;
        }
    }
    if (!push(&stack, cpu.segments[CS].selector, size) || !push(&stack, cpu.eip, size))
        return false;
    cpu.segments[SS] = ss;
    cpu.gpr[ESP] = stack.esp;
    cpu.cpl = level;
    cpu_set_segment(&cpu.segments[CS], (target.selector & ~3u) | level, target.code);
    cpu.eip = target.offset;
    return true;
}

/* --- sysenter and sysexit (SDM vol. 2): flat segments, whatever the tables say --- */

static void flat_segment(enum segment_register which, u16 selector, bool code) {
    cpu.segments[which] = (struct segment){
        .limit = 0xffffffff,
        .selector = selector,
        .attributes = ATTR_BIG | ATTR_GRANULARITY | ATTR_PRESENT | ATTR_S | ATTR_ACCESSED | ATTR_WRITABLE |
                      (code ? ATTR_CODE : 0) | (selector & 3u) << ATTR_DPL_SHIFT,
    };
}

bool cpu_sysenter(void) {
    if (!(cpu.sysenter_cs & 0xfffc))
        return raise(VECTOR_GP, 0);
    cpu_set_flags(cpu_flags() & ~(u32)(FLAG_IF | FLAG_VM | FLAG_RF));
    cpu.cpl = 0;
    flat_segment(CS, cpu.sysenter_cs & 0xfffc, true);
    flat_segment(SS, (cpu.sysenter_cs & 0xfffc) + 8, false);
    cpu.gpr[ESP] = cpu.sysenter_esp;
    cpu.eip = cpu.sysenter_eip;
    return true;
}

bool cpu_sysexit(void) {
    if (cpu.cpl || !(cpu.sysenter_cs & 0xfffc))
        return raise(VECTOR_GP, 0);
    flat_segment(CS, ((cpu.sysenter_cs & 0xfffc) + 16) | 3, true);
    flat_segment(SS, ((cpu.sysenter_cs & 0xfffc) + 24) | 3, false);
    cpu.cpl = 3;
    cpu.gpr[ESP] = cpu.gpr[ECX];
    cpu.eip = cpu.gpr[EDX];
    return true;
}
