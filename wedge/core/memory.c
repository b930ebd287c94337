/*
 * Accesses to memory. The operand is found once, for reading or for both, so
 * that a fault comes before anything has changed, and a device's register is
 * read and written once each. What arithmetic makes of the flags the real
 * processor is asked.
 */

#include "memory.h"

#include "cpu.h"
#include "decode.h"
#include "devices/devices.h"
#include "mmu/mmu.h"

#define ARITHMETIC (FLAG_CF | FLAG_PF | FLAG_AF | FLAG_ZF | FLAG_SF | FLAG_OF)

static access_t user_access(void) { return cpu.cpl == 3 ? PF_USER : 0; }

/* --- Places --- */

/* Where an operand is: a device's registers, RAM in one page, or across two. */
struct place {
    gva_t address;
    gpa_t physical;
    u8 *ram; /* NULL: across pages */
    u8 size;
    bool device;
};

static bool find(gva_t address, unsigned size, access_t access, struct place *place) {
    access |= user_access();
    *place = (struct place){.address = address, .size = size};
    if (!mmu_physical(address, access, &place->physical))
        return false;
    if ((address.value & ~PAGE_MASK) + size > PAGE_SIZE)
        return mmu_pointer(gva(address.value + size - 1), access) != NULL;
    place->device = devices_are_at(place->physical);
    if (!place->device)
        place->ram = mmu_pointer(address, access);
    return true;
}

/* Up to 8 bytes. Neither can fault once the place has been found for it. */
static u64 load(const struct place *place) {
    u64 value = 0;
    if (place->device) {
        for (unsigned at = 0; at < place->size; at += 4)
            value |= (u64)devices_read(gpa(place->physical.value + at), place->size < 4 ? place->size : 4) << 8 * at;
    } else if (place->ram) {
        switch (place->size) {
        case 1: return *place->ram;
        case 2: return *(const u16 *)place->ram;
        case 4: return *(const u32 *)place->ram;
        default: memcpy(&value, place->ram, place->size);
        }
    } else {
        guest_read(place->address, &value, place->size, user_access());
    }
    return value;
}

static void store(const struct place *place, u64 value) {
    if (place->device) {
        for (unsigned at = 0; at < place->size; at += 4)
            devices_write(gpa(place->physical.value + at), place->size < 4 ? place->size : 4, (u32)(value >> 8 * at));
    } else if (place->ram) {
        switch (place->size) {
        case 1: *place->ram = (u8)value; break;
        case 2: *(u16 *)place->ram = (u16)value; break;
        case 4: *(u32 *)place->ram = (u32)value; break;
        default: memcpy(place->ram, &value, place->size);
        }
    } else {
        guest_write(place->address, &value, place->size, user_access());
    }
}

/* --- Arithmetic, by the real processor --- */

/* `result` has SF, ZF, AF, PF and CF as lahf has them, and OF in bit 0. Those of `which` change. */
static void take_arithmetic(u32 result, u32 which) {
    u32 flags = (result >> 8 & 0xff) | (result & 1 ? FLAG_OF : 0);
    cpu.eflags = (cpu.eflags & ~which) | (flags & which);
}

#define FLAGS_OUT "lahf\n\tseto %%al"

#define SIZED(type, statement, which)                                                 \
    {                                                                                 \
        type wide = (type)a, other = (type)b;                                         \
        u32 flags;                                                                    \
        __asm__("btl $0, %[carry]\n\t" statement "\n\t" FLAGS_OUT                     \
                : "=&a"(flags), [to] "+q"(wide)                                       \
                : [from] "q"(other), [carry] "m"(cpu.eflags)                          \
                : "cc");                                                              \
        take_arithmetic(flags, which);                                                \
        return wide;                                                                  \
    }

#define ARITHMETIC_OPERATION(name, operands)                   \
    static u32 do_##name(u32 a, u32 b, unsigned size) {         \
        switch (size) {                                         \
        case 1: SIZED(u8, #name "b " operands, ARITHMETIC)                  \
        case 2: SIZED(u16, #name "w " operands, ARITHMETIC)                 \
        default: SIZED(u32, #name "l " operands, ARITHMETIC)                \
        }                                                       \
    }

/* A bit of a word or double word goes to CF; processors leave the other flags as they are. */
#define BIT_OPERATION(name)                                     \
    static u32 do_##name(u32 a, u32 b, unsigned size) {         \
        if (size == 2)                                          \
            SIZED(u16, #name "w %[from], %[to]", FLAG_CF)                \
        SIZED(u32, #name "l %[from], %[to]", FLAG_CF)                    \
    }

#define TWO_OPERANDS "%[from], %[to]"
ARITHMETIC_OPERATION(add, TWO_OPERANDS)
ARITHMETIC_OPERATION(or, TWO_OPERANDS)
ARITHMETIC_OPERATION(adc, TWO_OPERANDS)
ARITHMETIC_OPERATION(sbb, TWO_OPERANDS)
ARITHMETIC_OPERATION(and, TWO_OPERANDS)
ARITHMETIC_OPERATION(sub, TWO_OPERANDS)
ARITHMETIC_OPERATION(xor, TWO_OPERANDS)
ARITHMETIC_OPERATION(cmp, TWO_OPERANDS)
ARITHMETIC_OPERATION(test, TWO_OPERANDS)
ARITHMETIC_OPERATION(inc, "%[to]")
ARITHMETIC_OPERATION(dec, "%[to]")
ARITHMETIC_OPERATION(neg, "%[to]")
BIT_OPERATION(bt)
BIT_OPERATION(bts)
BIT_OPERATION(btr)
BIT_OPERATION(btc)

typedef u32 arithmetic(u32 a, u32 b, unsigned size);

/* In the order of their encoding (SDM vol. 2, 80 /0 to /7). */
static arithmetic *const group_1[8] = {do_add, do_or, do_adc, do_sbb, do_and, do_sub, do_xor, do_cmp};
/* 0f ba /4 to /7, and by bits 3 and 4 of 0f a3, ab, b3, bb. */
static arithmetic *const bit_operations[4] = {do_bt, do_bts, do_btr, do_btc};

static bool only_compares(arithmetic *operate) { return operate == do_cmp || operate == do_test || operate == do_bt; }

/* --- Instructions --- */

typedef enum outcome handler(const struct instruction *);

static struct place written; /* what the instruction wrote to; size 0: nothing */

/* Bit 0 of the opcode chooses between a byte and the operand size. */
static unsigned size_of(const struct instruction *i) { return i->opcode & 1 ? i->operand_size : 1; }

static bool operand(const struct instruction *i, unsigned size, access_t access, struct place *place) {
    return find(decode_address(i), size, access, place);
}

static void put(const struct place *place, u64 value) {
    store(place, value);
    written = *place;
}

/* Memory as the first operand. */
static enum outcome to_memory(const struct instruction *i, arithmetic *operate, u32 value, unsigned size) {
    struct place place;
    if (!operand(i, size, only_compares(operate) ? 0 : PF_WRITE, &place))
        return OUTCOME_FAULT;
    u32 result = operate((u32)load(&place), value, size);
    if (!only_compares(operate))
        put(&place, result);
    return OUTCOME_NEXT;
}

static enum outcome from_memory(const struct instruction *i, arithmetic *operate, unsigned size) {
    struct place place;
    if (!operand(i, size, 0, &place))
        return OUTCOME_FAULT;
    u32 result = operate(cpu_register(i->reg, size), (u32)load(&place), size);
    if (!only_compares(operate))
        cpu_set_register(i->reg, size, result);
    return OUTCOME_NEXT;
}

/* 00 to 3b: the operation in bits 3-5, the direction in bit 1. */
static enum outcome do_arithmetic(const struct instruction *i) {
    arithmetic *operate = group_1[i->opcode >> 3 & 7];
    unsigned size = size_of(i);
    return i->opcode & 2 ? from_memory(i, operate, size) : to_memory(i, operate, cpu_register(i->reg, size), size);
}

static enum outcome do_group_1(const struct instruction *i) {
    u32 value = i->opcode == 0x83 ? (u32)(s32)(s8)i->immediate : i->immediate;
    return to_memory(i, group_1[i->reg], value, size_of(i));
}

static enum outcome do_test_register(const struct instruction *i) {
    return to_memory(i, do_test, cpu_register(i->reg, size_of(i)), size_of(i));
}

static enum outcome do_exchange(const struct instruction *i) {
    struct place place;
    unsigned size = size_of(i);
    if (!operand(i, size, PF_WRITE, &place))
        return OUTCOME_FAULT;
    u32 before = (u32)load(&place);
    put(&place, cpu_register(i->reg, size));
    cpu_set_register(i->reg, size, before);
    return OUTCOME_NEXT;
}

static enum outcome move_to(const struct instruction *i, u32 value) {
    struct place place;
    if (!operand(i, size_of(i), PF_WRITE, &place))
        return OUTCOME_FAULT;
    put(&place, value);
    return OUTCOME_NEXT;
}

static enum outcome move_from(const struct instruction *i, unsigned to) {
    struct place place;
    if (!operand(i, size_of(i), 0, &place))
        return OUTCOME_FAULT;
    cpu_set_register(to, size_of(i), (u32)load(&place));
    return OUTCOME_NEXT;
}

/* The immediate of c6 and c7 is all of /0; others are undefined. */
static enum outcome do_move_immediate(const struct instruction *i) {
    return i->reg ? OUTCOME_UNKNOWN : move_to(i, i->immediate);
}
static enum outcome do_move_to(const struct instruction *i) { return move_to(i, cpu_register(i->reg, size_of(i))); }
static enum outcome do_move_from(const struct instruction *i) { return move_from(i, i->reg); }
static enum outcome do_moffs(const struct instruction *i) {
    return i->opcode & 2 ? move_to(i, cpu_register(EAX, size_of(i))) : move_from(i, EAX);
}

/* b6, b7: zeros in front; be, bf: the sign. */
static enum outcome do_extend(const struct instruction *i) {
    struct place place;
    unsigned size = i->opcode & 1 ? 2 : 1;
    if (!operand(i, size, 0, &place))
        return OUTCOME_FAULT;
    u32 value = (u32)load(&place);
    if (i->opcode & 8)
        value = size == 1 ? (u32)(s32)(s8)value : (u32)(s32)(s16)value;
    cpu_set_register(i->reg, i->operand_size, value);
    return OUTCOME_NEXT;
}

static u32 do_not(u32 a, u32 b, unsigned size) {
    (void)b;
    (void)size;
    return ~a;
}

static enum outcome do_group_3(const struct instruction *i) {
    switch (i->reg) {
    case 0:
    case 1: return to_memory(i, do_test, i->immediate, size_of(i));
    case 2: return to_memory(i, do_not, 0, size_of(i));
    case 3: return to_memory(i, do_neg, 0, size_of(i));
    default: return OUTCOME_UNKNOWN;
    }
}

static enum outcome do_increment(const struct instruction *i) {
    return i->reg > 1 ? OUTCOME_UNKNOWN : to_memory(i, i->reg ? do_dec : do_inc, 0, size_of(i));
}

/* With the bit's number in a register, which may lead away from the operand (SDM vol. 2, BT). */
static enum outcome do_bit(const struct instruction *i) {
    arithmetic *operate = bit_operations[i->opcode >> 3 & 3];
    unsigned size = i->operand_size;
    u32 value = cpu_register(i->reg, size);
    s32 bit = size == 2 ? (s16)value : (s32)value;
    struct place place;
    gva_t at = gva(decode_address(i).value + (u32)(size == 2 ? (bit >> 4) * 2 : (bit >> 5) * 4));
    if (!find(at, size, operate == do_bt ? 0 : PF_WRITE, &place))
        return OUTCOME_FAULT;
    u32 result = operate((u32)load(&place), (u32)bit & (size * 8 - 1), size);
    if (operate != do_bt)
        put(&place, result);
    return OUTCOME_NEXT;
}

static enum outcome do_bit_immediate(const struct instruction *i) {
    if (i->reg < 4)
        return OUTCOME_UNKNOWN;
    return to_memory(i, bit_operations[i->reg & 3], i->immediate & (i->operand_size * 8u - 1), i->operand_size);
}

static enum outcome do_compare_exchange(const struct instruction *i) {
    struct place place;
    unsigned size = size_of(i);
    if (!operand(i, size, PF_WRITE, &place))
        return OUTCOME_FAULT;
    u32 before = (u32)load(&place);
    do_cmp(cpu_register(EAX, size), before, size);
    bool equal = cpu.eflags & FLAG_ZF;
    put(&place, equal ? cpu_register(i->reg, size) : before);
    if (!equal)
        cpu_set_register(EAX, size, before);
    return OUTCOME_NEXT;
}

static enum outcome do_exchange_add(const struct instruction *i) {
    struct place place;
    unsigned size = size_of(i);
    if (!operand(i, size, PF_WRITE, &place))
        return OUTCOME_FAULT;
    u32 before = (u32)load(&place);
    u32 sum = do_add(before, cpu_register(i->reg, size), size);
    cpu_set_register(i->reg, size, before);
    put(&place, sum);
    return OUTCOME_NEXT;
}

/* cmpxchg8b */
static enum outcome do_group_9(const struct instruction *i) {
    struct place place;
    if (i->reg != 1)
        return OUTCOME_UNKNOWN;
    if (!operand(i, 8, PF_WRITE, &place))
        return OUTCOME_FAULT;
    u64 before = load(&place);
    bool equal = before == (cpu.gpr[EAX] | (u64)cpu.gpr[EDX] << 32);
    put(&place, equal ? cpu.gpr[EBX] | (u64)cpu.gpr[ECX] << 32 : before);
    cpu.eflags = equal ? cpu.eflags | FLAG_ZF : cpu.eflags & ~(u32)FLAG_ZF;
    if (!equal) {
        cpu.gpr[EAX] = (u32)before;
        cpu.gpr[EDX] = (u32)(before >> 32);
    }
    return OUTCOME_NEXT;
}

/*
 * movs, stos and lods, element by element, so that a fault leaves the progress
 * that hardware would. A long one gives way to interrupts in between.
 */
static enum outcome do_string(const struct instruction *i) {
    const u32 batch = cpu_flags() & FLAG_TF ? 1 : 4096;
    bool loads = i->opcode < 0xaa || i->opcode >= 0xac, stores = i->opcode < 0xac;
    unsigned size = size_of(i);
    u32 step = cpu.eflags & FLAG_DF ? -size : size, mask = i->address_size == 2 ? 0xffff : 0xffffffff;
    for (u32 n = 0;; n++) {
        struct place from, to;
        u32 value = cpu_register(EAX, size);
        if (i->repeat && !(cpu.gpr[ECX] & mask))
            return OUTCOME_NEXT;
        if (n == batch)
            return OUTCOME_REPEAT;
        if (loads && !find(gva(cpu.segments[i->segment].base + (cpu.gpr[ESI] & mask)), size, 0, &from))
            return OUTCOME_FAULT;
        if (stores && !find(gva(cpu.segments[ES].base + (cpu.gpr[EDI] & mask)), size, PF_WRITE, &to))
            return OUTCOME_FAULT;
        if (loads) {
            value = (u32)load(&from);
            cpu.gpr[ESI] = (cpu.gpr[ESI] & ~mask) | ((cpu.gpr[ESI] + step) & mask);
        }
        if (stores) {
            store(&to, value);
            cpu.gpr[EDI] = (cpu.gpr[EDI] & ~mask) | ((cpu.gpr[EDI] + step) & mask);
        } else {
            cpu_set_register(EAX, size, value);
        }
        if (!i->repeat)
            return OUTCOME_NEXT;
        cpu.gpr[ECX] = (cpu.gpr[ECX] & ~mask) | ((cpu.gpr[ECX] - 1) & mask);
    }
}

/* --- The tables --- */

#define ARITHMETIC_ROW(first) [first ... first + 3] = do_arithmetic

static handler *const one_byte[256] = {
    ARITHMETIC_ROW(0x00), ARITHMETIC_ROW(0x08), ARITHMETIC_ROW(0x10), ARITHMETIC_ROW(0x18),
    ARITHMETIC_ROW(0x20), ARITHMETIC_ROW(0x28), ARITHMETIC_ROW(0x30), ARITHMETIC_ROW(0x38),
    [0x80 ... 0x83] = do_group_1,
    [0x84 ... 0x85] = do_test_register,
    [0x86 ... 0x87] = do_exchange,
    [0x88 ... 0x89] = do_move_to, [0x8a ... 0x8b] = do_move_from,
    [0xa0 ... 0xa3] = do_moffs,
    [0xa4 ... 0xa5] = do_string, [0xaa ... 0xad] = do_string,
    [0xc6 ... 0xc7] = do_move_immediate,
    [0xf6 ... 0xf7] = do_group_3,
    [0xfe ... 0xff] = do_increment,
};

static handler *const two_byte[256] = {
    [0xa3] = do_bit, [0xab] = do_bit, [0xb3] = do_bit, [0xbb] = do_bit,
    [0xb0 ... 0xb1] = do_compare_exchange,
    [0xb6 ... 0xb7] = do_extend, [0xbe ... 0xbf] = do_extend,
    [0xba] = do_bit_immediate,
    [0xc0 ... 0xc1] = do_exchange_add,
    [0xc7] = do_group_9,
};

static handler *find_handler(const struct instruction *i) {
    handler *handle = i->map == 0 ? one_byte[i->opcode] : i->map == 1 ? two_byte[i->opcode] : NULL;
    bool implied = handle == do_moffs || handle == do_string;
    return i->memory || implied ? handle : NULL;
}

enum outcome emulate_memory(const u8 *bytes, unsigned count, unsigned length, bool changes_tables) {
    struct instruction instruction;
    bool stepping = cpu_flags() & FLAG_TF;
    if (!decode(bytes, count, &instruction))
        return OUTCOME_UNKNOWN;
    handler *handle = find_handler(&instruction);
    if (!handle)
        return OUTCOME_UNKNOWN;
    u32 next = cpu.eip + (length ? length : instruction.length);
    written.size = 0;
    enum outcome outcome = handle(&instruction);
    if (changes_tables && outcome == OUTCOME_NEXT && written.size && !written.device)
        mmu_entry_written(written.physical);
    if (outcome != OUTCOME_UNKNOWN)
        emulate_finish(outcome, next, stepping);
    return outcome;
}
