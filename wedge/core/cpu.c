/*
 * The virtual CPU's registers: flags, general registers, segments.
 * Checks and faults are those of protected mode without vm86 (SDM vol. 3A, 3 and 5).
 */

#include "cpu.h"

#include "mmu/mmu.h"
#include "port.h"

struct exception exception;

bool raise(enum vector vector, u32 error) {
    exception = (struct exception){.vector = vector, .has_error = true, .error = error};
    return false;
}

bool raise_plain(enum vector vector) {
    exception = (struct exception){.vector = vector};
    return false;
}

bool raise_page_fault(u32 address, u32 error) {
    exception = (struct exception){.vector = VECTOR_PF, .has_error = true, .error = error, .cr2 = address};
    return false;
}

void cpu_set_flags(u32 flags) {
    cpu.eflags = (flags & ~(u32)FLAGS_VIRTUAL) | FLAG_FIXED;
    cpu.interrupt_flag = flags & FLAG_IF;
    cpu.system_flags = flags & (FLAG_IOPL | FLAGS_APART);
}

u32 cpu_register(unsigned number, unsigned size) {
    if (size == 4)
        return cpu.gpr[number];
    if (size == 2)
        return cpu.gpr[number] & 0xffff;
    return number < 4 ? cpu.gpr[number] & 0xff : cpu.gpr[number - 4] >> 8 & 0xff;
}

void cpu_set_register(unsigned number, unsigned size, u32 value) {
    u32 *reg = &cpu.gpr[size == 1 ? number & 3 : number];
    unsigned shift = size == 1 && number >= 4 ? 8 : 0;
    u32 mask = size == 4 ? 0xffffffff : size == 2 ? 0xffff : 0xffu << shift;
    *reg = (*reg & ~mask) | (value << shift & mask);
}

/* --- Descriptors --- */

static bool descriptor_address(u16 selector, u32 *address) {
    u32 base = selector & 4 ? cpu.ldtr.base : cpu.gdtr.base;
    u32 limit = selector & 4 ? cpu.ldtr.limit : cpu.gdtr.limit;
    if ((selector & 4) && !(cpu.ldtr.attributes & ATTR_PRESENT))
        return false;
    if ((selector | 7u) > limit)
        return false;
    *address = base + (selector & ~7u);
    return true;
}

bool cpu_read_descriptor(u16 selector, u32 words[2]) {
    u32 address;
    if (!descriptor_address(selector, &address))
        return raise(VECTOR_GP, selector & ~3u);
    return guest_read(gva(address), words, 8, 0);
}

static u32 descriptor_base(const u32 words[2]) {
    return words[0] >> 16 | (words[1] & 0xff) << 16 | (words[1] & 0xff000000);
}

static u32 descriptor_limit(const u32 words[2]) {
    u32 limit = (words[0] & 0xffff) | (words[1] & 0xf0000);
    return words[1] & 1u << 23 ? limit << 12 | 0xfff : limit;
}

void cpu_set_segment(struct segment *segment, u16 selector, const u32 words[2]) {
    segment->selector = selector;
    segment->base = descriptor_base(words);
    segment->limit = descriptor_limit(words);
    segment->attributes = descriptor_attributes(words);
}

/* Sets the accessed bit in the table, as a load does (SDM vol. 3A, 3.4.5.1). */
static bool mark_accessed(u16 selector, u32 words[2]) {
    if (words[1] & ATTR_ACCESSED << 8)
        return true;
    u32 address;
    words[1] |= ATTR_ACCESSED << 8;
    if (!descriptor_address(selector, &address))
        return raise(VECTOR_GP, selector & ~3u);
    return guest_write(gva(address + 4), &words[1], 4, 0);
}

bool cpu_load_segment(enum segment_register which, u16 selector) {
    struct segment *segment = &cpu.segments[which];
    unsigned rpl = selector & 3;
    if (!(selector & ~3u)) {
        if (which == SS)
            return raise(VECTOR_GP, 0);
        *segment = (struct segment){.selector = selector};
        return true;
    }
    u32 words[2];
    if (!cpu_read_descriptor(selector, words))
        return false;
    u16 attributes = descriptor_attributes(words);
    u32 error = selector & ~3u;
    bool code = attributes & ATTR_CODE;
    if (!(attributes & ATTR_S))
        return raise(VECTOR_GP, error);
    if (which == SS) {
        if (code || !(attributes & ATTR_WRITABLE) || rpl != cpu.cpl || dpl(attributes) != cpu.cpl)
            return raise(VECTOR_GP, error);
        if (!(attributes & ATTR_PRESENT))
            return raise(VECTOR_SS, error);
    } else {
        if (code && !(attributes & ATTR_READABLE))
            return raise(VECTOR_GP, error);
        bool conforming = code && (attributes & ATTR_CONFORMING);
        if (!conforming && (rpl > dpl(attributes) || cpu.cpl > dpl(attributes)))
            return raise(VECTOR_GP, error);
        if (!(attributes & ATTR_PRESENT))
            return raise(VECTOR_NP, error);
    }
    if (!mark_accessed(selector, words))
        return false;
    cpu_set_segment(segment, selector, words);
    return true;
}

bool cpu_load_ldtr(u16 selector) {
    if (!(selector & ~3u)) {
        cpu.ldtr = (struct segment){.selector = selector};
        return true;
    }
    u32 words[2];
    if (selector & 4)
        return raise(VECTOR_GP, selector & ~3u);
    if (!cpu_read_descriptor(selector, words))
        return false;
    u16 attributes = descriptor_attributes(words);
    if ((attributes & (ATTR_S | ATTR_TYPE)) != 2)
        return raise(VECTOR_GP, selector & ~3u);
    if (!(attributes & ATTR_PRESENT))
        return raise(VECTOR_NP, selector & ~3u);
    cpu_set_segment(&cpu.ldtr, selector, words);
    return true;
}

bool cpu_load_tr(u16 selector) {
    u32 words[2];
    if (!(selector & ~3u))
        return raise(VECTOR_GP, 0);
    if (selector & 4)
        return raise(VECTOR_GP, selector & ~3u);
    if (!cpu_read_descriptor(selector, words))
        return false;
    u16 attributes = descriptor_attributes(words);
    unsigned type = attributes & (ATTR_S | ATTR_TYPE);
    if (type != 9 && type != 1) /* available TSS, 32 or 16 bits */
        return raise(VECTOR_GP, selector & ~3u);
    if (!(attributes & ATTR_PRESENT))
        return raise(VECTOR_NP, selector & ~3u);
    words[1] |= 2 << 8; /* busy */
    if (!guest_write(gva(cpu.gdtr.base + (selector & ~7u) + 4), &words[1], 4, 0))
        return false;
    cpu_set_segment(&cpu.tr, selector, words);
    return true;
}

void cpu_refresh_tls(void) {
    for (enum segment_register which = FS; which <= GS; which++) {
        struct segment *segment = &cpu.segments[which];
        u32 words[2], address;
        if (!(segment->selector & ~3u) || !descriptor_address(segment->selector, &address))
            continue;
        if (!guest_read(gva(address), words, 8, 0))
            continue;
        u16 attributes = descriptor_attributes(words);
        if ((attributes & (ATTR_PRESENT | ATTR_S)) == (ATTR_PRESENT | ATTR_S))
            cpu_set_segment(segment, segment->selector, words);
    }
}

void cpu_reset(void) {
    memset(&cpu, 0, sizeof cpu);
    cpu.eflags = FLAG_FIXED;
    cpu.cr0 = CR0_PE | CR0_ET;
    cpu.dr[6] = 0xffff0ff0;
    cpu.dr[7] = 0x400;
    cpu.pat = 0x0007040600070406;
    cpu.misc_enable = 1;
    cpu.xcr0 = XCR0_X87;
    cpu.idtr.limit = 0x3ff;
    cpu.gdtr.limit = 0xffff;
    /* What both boot protocols promise: flat 4 GiB segments, whatever their selectors. */
    for (enum segment_register which = ES; which <= GS; which++)
        cpu.segments[which] = (struct segment){
            .limit = 0xffffffff,
            .selector = which == CS ? 0x10 : 0x18,
            .attributes = ATTR_BIG | ATTR_GRANULARITY | ATTR_PRESENT | ATTR_S | ATTR_ACCESSED |
                          ATTR_WRITABLE | (which == CS ? ATTR_CODE : 0),
        };
    cpu.tr = (struct segment){.limit = 0xffff, .attributes = ATTR_PRESENT | 0xb};
    cpu.ldtr = (struct segment){.limit = 0xffff, .attributes = ATTR_PRESENT | 2};
}
