/*
 * Accesses below the lowest address that the host lets a process map
 * (vm.mmap_min_addr). They trap each time. The page is mapped at a window
 * elsewhere, the instruction is copied with its memory operand replaced by that
 * window, and the guest runs the copy; the int3 behind it brings it back.
 * String instructions have no operand to replace and are done here.
 */

#include "core/crash.h"
#include "core/decode.h"
#include "hosted.h"
#include "mmu/mmu.h"

static u32 resume; /* where the guest goes on after the copy */

static bool map_window(u32 address, access_t access) {
    for (u32 i = 0; i < 2; i++) {
        struct translation translation;
        if (!mmu_walk(gva((address & PAGE_MASK) + i * PAGE_SIZE), i ? 0 : access, &translation))
            return i; /* the second page only matters to an access that reaches into it */
        long result = host_mmap(LOW_WINDOW + i * PAGE_SIZE, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                                ram_fd, translation.entry & PAGE_MASK);
        if (host_failed(result))
            crash("the host refuses a window on low memory");
    }
    return true;
}

static bool is_replaced_prefix(u8 byte) {
    return byte == 0x26 || byte == 0x2e || byte == 0x36 || byte == 0x3e || byte == 0x64 || byte == 0x65 || byte == 0x67;
}

/* Copies up to `end`, without prefixes that the new operand must not have. */
static u32 copy_head(u8 *to, const u8 *bytes, u32 end) {
    u32 at = 0, length = 0;
    for (; at < end && is_replaced_prefix(bytes[at]); at++)
        ;
    while (at < end)
        to[length++] = bytes[at++];
    return length;
}

static void run_copy(const struct instruction *i, const u8 *bytes, u32 operand) {
    u8 *to = low_code;
    u32 window = LOW_WINDOW + (operand & ~PAGE_MASK);
    u32 tail = i->has_modrm ? i->modrm_offset + i->modrm_length : i->length;
    u32 length = copy_head(to, bytes, i->has_modrm ? i->modrm_offset : i->length - i->address_size);
    if (i->has_modrm)
        to[length++] = i->reg << 3 | 5; /* disp32 */
    memcpy(to + length, &window, 4);
    length += 4;
    memcpy(to + length, bytes + tail, i->length - tail);
    length += i->length - tail;
    to[length] = 0xcc;
    resume = cpu.eip + i->length;
    cpu.eip = LOW_CODE;
}

/* movs, stos and lods, element by element. False with #PF raised, the progress kept. */
static bool run_string(const struct instruction *i) {
    bool load = i->opcode < 0xa6 || i->opcode >= 0xac, store = i->opcode < 0xac;
    unsigned size = i->opcode & 1 ? i->operand_size : 1;
    u32 step = cpu.eflags & FLAG_DF ? -size : size;
    access_t user = cpu.cpl == 3 ? PF_USER : 0;
    while (!i->repeat || cpu.gpr[ECX]) {
        u32 value = cpu.gpr[EAX];
        if (load && !guest_read(gva(cpu.segments[i->segment].base + cpu.gpr[ESI]), &value, size, user))
            return false;
        if (store && !guest_write(gva(cpu.segments[ES].base + cpu.gpr[EDI]), &value, size, user))
            return false;
        if (load)
            cpu.gpr[ESI] += step;
        if (store)
            cpu.gpr[EDI] += step;
        else
            cpu_set_register(EAX, size, value);
        if (!i->repeat)
            break;
        cpu.gpr[ECX]--;
    }
    cpu.eip += i->length;
    return true;
}

static bool is_string(const struct instruction *i) {
    static const u8 opcodes[] = {0xa4, 0xa5, 0xaa, 0xab, 0xac, 0xad};
    for (unsigned n = 0; n < ARRAY_SIZE(opcodes); n++)
        if (i->map == 0 && i->opcode == opcodes[n] && i->address_size == 4)
            return true;
    return false;
}

bool port_access(const u8 *bytes, unsigned count, u32 address, access_t access) {
    struct instruction instruction;
    if (!decode(bytes, count, &instruction))
        crash("no instruction at %x that accesses %x", cpu.eip, address);
    if (is_string(&instruction))
        return run_string(&instruction);
    bool moffs = instruction.map == 0 && (instruction.opcode & 0xfc) == 0xa0;
    bool calls = instruction.map == 0 && instruction.opcode == 0xff && (instruction.reg == 2 || instruction.reg == 3);
    u32 operand = decode_address(&instruction).value;
    if ((!instruction.memory && !moffs) || calls || operand >= map_floor)
        crash("an access to %x, below what the host lets a process map, that cannot be emulated", address);
    if (!map_window(operand, access))
        return false;
    run_copy(&instruction, bytes, operand);
    return true;
}

bool port_access_ends(u32 address) {
    if ((address & PAGE_MASK) != LOW_CODE)
        return false;
    cpu.eip = resume;
    return true;
}

bool port_unmappable(u32 address) { return address < map_floor; }
