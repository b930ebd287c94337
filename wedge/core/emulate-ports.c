/*
 * The emulator: port I/O.
 */

#include "devices/devices.h"
#include "handlers.h"

/* The I/O permission bitmap (SDM vol. 1, 19.5.2). */
static bool port_permitted(u16 port, unsigned size) {
    if (cpu.cpl <= cpu_iopl())
        return true;
    u16 map, bits;
    if (!(cpu.tr.attributes & 8) || cpu.tr.limit < 103)
        return raise(VECTOR_GP, 0);
    if (!guest_read(gva(cpu.tr.base + 102), &map, 2, 0))
        return false;
    if (map + port / 8u + 1 > cpu.tr.limit)
        return raise(VECTOR_GP, 0);
    if (!guest_read(gva(cpu.tr.base + map + port / 8u), &bits, 2, 0))
        return false;
    if (bits >> port % 8 & ((1u << size) - 1))
        return raise(VECTOR_GP, 0);
    return true;
}

enum outcome emulate_in(u16 port, unsigned size) {
    if (!port_permitted(port, size))
        return OUTCOME_FAULT;
    cpu_set_register(EAX, size, devices_in(port, size));
    return OUTCOME_NEXT;
}

enum outcome emulate_out(u16 port, unsigned size) {
    if (!port_permitted(port, size))
        return OUTCOME_FAULT;
    devices_out(port, size, cpu_register(EAX, size));
    return OUTCOME_NEXT;
}

/* Bit 0 of the opcode chooses between a byte and the operand size. */
static unsigned io_size(const struct instruction *i) { return i->opcode & 1 ? i->operand_size : 1; }

enum outcome do_in_dx(const struct instruction *i) { return emulate_in(cpu.gpr[EDX], io_size(i)); }
enum outcome do_out_dx(const struct instruction *i) { return emulate_out(cpu.gpr[EDX], io_size(i)); }
enum outcome do_in_immediate(const struct instruction *i) { return emulate_in(i->immediate, io_size(i)); }
enum outcome do_out_immediate(const struct instruction *i) { return emulate_out(i->immediate, io_size(i)); }

/*
 * ins and outs, one element at a time so that a fault leaves exactly the
 * progress that hardware would. A long one gives way to interrupts in between.
 */
enum outcome do_string_io(const struct instruction *i) {
    const u32 batch = cpu_flags() & FLAG_TF ? 1 : 4096; /* single-stepping stops at every element */
    bool input = !(i->opcode & 2);
    unsigned size = io_size(i);
    u32 step = cpu.eflags & FLAG_DF ? -size : size;
    u32 mask = i->address_size == 2 ? 0xffff : 0xffffffff;
    u32 *index = &cpu.gpr[input ? EDI : ESI];
    u32 base = cpu.segments[input ? ES : i->segment].base;
    for (u32 n = 0;; n++) {
        if (i->repeat && !(cpu.gpr[ECX] & mask))
            return OUTCOME_NEXT;
        if (n == batch)
            return OUTCOME_REPEAT;
        if (!port_permitted(cpu.gpr[EDX], size))
            return OUTCOME_FAULT;
        gva_t at = gva(base + (*index & mask));
        u32 value = 0;
        if (input) {
            /* The rights first: a device register may not be read in vain. */
            if (!mmu_pointer(at, PF_WRITE | user_access()))
                return OUTCOME_FAULT;
            value = devices_in(cpu.gpr[EDX], size);
            if (!guest_write(at, &value, size, user_access()))
                return OUTCOME_FAULT;
        } else {
            if (!guest_read(at, &value, size, user_access()))
                return OUTCOME_FAULT;
            devices_out(cpu.gpr[EDX], size, value);
        }
        *index = (*index & ~mask) | ((*index + step) & mask);
        if (!i->repeat)
            return OUTCOME_NEXT;
        cpu.gpr[ECX] = (cpu.gpr[ECX] & ~mask) | ((cpu.gpr[ECX] - 1) & mask);
    }
}
