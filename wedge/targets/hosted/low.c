/*
 * Accesses below the lowest address that the host lets a process map
 * (vm.mmap_min_addr). They trap each time. The page is mapped at a window
 * elsewhere, the instruction is copied with its memory operand replaced by that
 * window, and the guest runs the copy; the int3 behind it brings it back.
 * String instructions have no operand to replace and are done here.
 */

#include "core/crash.h"
#include "core/decode.h"
#include "core/port.h"
#include "hosted.h"
#include "mmu/mmu.h"

#define WINDOW_PAGES 2u /* an access may reach from one page into the next */

/* The instruction that was copied last. */
static struct {
    u32 start, end; /* where it is the guest's */
    u32 copy_end;   /* where its copy ends */
    bool ready;     /* and is to be run next */
    u32 page;       /* what the window's first page shows */
    u64 writable[WINDOW_PAGES]; /* RAM that it may write to; NOWHERE */
} copied;

#define NOWHERE (~0ull)
#define NO_ADDRESS (~0u)

static u32 reached = NO_ADDRESS; /* by the copy, in the window's second page */

static bool map_page(u32 i, access_t access) {
    struct translation translation;
    copied.writable[i] = NOWHERE;
    if (!mmu_walk(gva(copied.page + i * PAGE_SIZE), access, &translation))
        return false;
    int protection = PROT_READ | (access & PF_WRITE ? PROT_WRITE : 0);
    u32 frame = translation.entry & PAGE_MASK;
    if (host_failed(host_mmap(LOW_WINDOW + i * PAGE_SIZE, PAGE_SIZE, protection, MAP_SHARED | MAP_FIXED, ram_fd, frame)))
        crash("the host refuses a window on low memory");
    if (access & PF_WRITE)
        copied.writable[i] = frame;
    return true;
}

/* The second page is the access's only once that has faulted there: till then it cannot be written to. */
static bool map_window(u32 operand, u32 fault, access_t access) {
    copied.page = operand & PAGE_MASK;
    if (!map_page(0, access))
        return false;
    if (fault - copied.page >= PAGE_SIZE)
        return map_page(1, access);
    if (!map_page(1, access & ~(access_t)PF_WRITE))
        host_munmap(LOW_WINDOW + PAGE_SIZE, PAGE_SIZE);
    return true;
}

static bool is_one_of(u8 byte, const u8 *bytes, u32 count) {
    for (u32 i = 0; i < count; i++)
        if (bytes[i] == byte)
            return true;
    return false;
}

/* Copies up to `end`, without prefixes that the new operand must not have: of segments and of the address size. */
static u32 copy_head(u8 *to, const u8 *bytes, u32 end) {
    static const u8 replaced[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x67}, kept[] = {0x66, 0xf0, 0xf2, 0xf3};
    u32 at = 0, length = 0;
    for (; at < end; at++) {
        if (is_one_of(bytes[at], replaced, sizeof replaced))
            continue;
        if (!is_one_of(bytes[at], kept, sizeof kept))
            break;
        to[length++] = bytes[at];
    }
    while (at < end)
        to[length++] = bytes[at++];
    return length;
}

static void make_copy(const struct instruction *i, const u8 *bytes, u32 operand) {
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
    copied.start = cpu.eip;
    copied.end = cpu.eip + i->length;
    copied.copy_end = LOW_CODE + length;
    copied.ready = true;
}

u32 low_enter(void) {
    bool run = copied.ready && cpu.eip == copied.start;
    copied.ready = false;
    if (!run)
        return cpu.eip;
    for (u32 i = 0; i < WINDOW_PAGES; i++)
        if (copied.writable[i] != NOWHERE)
            port_ram_written(gpa(copied.writable[i]), PAGE_SIZE);
    return LOW_CODE;
}

u32 low_guest_eip(u32 real) {
    if (real == LOW_CODE)
        return copied.start;
    return real == copied.copy_end ? copied.end : real;
}

u32 low_guest_address(u32 real) {
    u32 offset = real - LOW_WINDOW;
    reached = NO_ADDRESS;
    if (offset >= WINDOW_PAGES * PAGE_SIZE)
        return real;
    return reached = copied.page + offset;
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
    if (!map_window(operand, address, access))
        return false;
    make_copy(&instruction, bytes, operand);
    return true;
}

bool port_access_ends(u32 address) {
    if ((address & PAGE_MASK) != LOW_CODE)
        return false;
    cpu.eip = copied.end;
    return true;
}

/* What a copy reaches may be mapped where it belongs, but the window has to show it. */
bool port_unmappable(u32 address) { return address < map_floor || address == reached; }
