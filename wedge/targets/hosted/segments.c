/*
 * The real segment registers. Guest code runs in the host's flat 32-bit user
 * segments, whatever its own selectors say: DS, ES and SS hold HOST_DS, or null
 * where the guest's are null, so that using one faults as it should. FS and GS
 * get their bases through wrfsbase and wrgsbase.
 *
 * User code loads segment registers natively. With the guest's TLS selector
 * that gives some descriptor of the host's; the first access through it faults,
 * and the fault's handler puts the right base in (segments_capture, then
 * segments_apply).
 */

#include "core/crash.h"
#include "hosted.h"

#define real_selector control.real_selectors
static u32 real_base[6];

static u16 read_selector(enum segment_register which) {
    u16 value = 0;
    switch (which) {
    case ES: __asm__ volatile("mov %%es, %0" : "=r"(value)); break;
    case DS: __asm__ volatile("mov %%ds, %0" : "=r"(value)); break;
    case FS: __asm__ volatile("mov %%fs, %0" : "=r"(value)); break;
    case GS: __asm__ volatile("mov %%gs, %0" : "=r"(value)); break;
    default: break;
    }
    return value;
}

static void write_selector(enum segment_register which, u16 value) {
    switch (which) {
    case ES: __asm__ volatile("mov %0, %%es" : : "r"(value)); break;
    case DS: __asm__ volatile("mov %0, %%ds" : : "r"(value)); break;
    case FS: __asm__ volatile("mov %0, %%fs" : : "r"(value)); break;
    case GS: __asm__ volatile("mov %0, %%gs" : : "r"(value)); break;
    default: break;
    }
}

static u32 read_base(enum segment_register which) {
    u64 base;
    if (which == FS)
        __asm__ volatile("rdfsbase %0" : "=r"(base));
    else
        __asm__ volatile("rdgsbase %0" : "=r"(base));
    return base;
}

static void write_base(enum segment_register which, u32 base) {
    u64 wide = base;
    if (which == FS)
        __asm__ volatile("wrfsbase %0" : : "r"(wide));
    else
        __asm__ volatile("wrgsbase %0" : : "r"(wide));
}

static const enum segment_register data_segments[] = {ES, DS, FS, GS};

static bool has_base(enum segment_register which) { return which == FS || which == GS; }

void segments_capture(void) {
    for (unsigned i = 0; i < ARRAY_SIZE(data_segments); i++) {
        enum segment_register which = data_segments[i];
        u16 selector = read_selector(which);
        if (has_base(which))
            real_base[which] = read_base(which);
        if (selector == real_selector[which])
            continue;
        real_selector[which] = selector;
        /* Loaded natively by user code. HOST_DS can only be what we had put there, read back. */
        if (selector == HOST_DS)
            continue;
        struct segment old = cpu.segments[which];
        struct exception pending = exception;
        if (!cpu_load_segment(which, selector)) {
            cpu.segments[which] = old;
            cpu.segments[which].selector = selector;
            exception = pending;
        }
    }
}

static bool is_null(const struct segment *segment) { return !(segment->selector & ~3u); }

/* What the short way back to user code may rely on for GS (entry.S). */
static void know_tls(void) {
    const struct segment *gs = &cpu.segments[GS];
    control.user_tls.address = 0;
    control.user_tls_selector = gs->selector;
    if (is_null(gs))
        return;
    u32 address = cpu.gdtr.base + (gs->selector & ~7u), words[2];
    if ((gs->selector & 4) || !guest_read(gva(address), words, 8, 0)) {
        control.user_tls_selector = ~0u;
        return;
    }
    control.user_tls = (struct known_descriptor){address, words[0], words[1]};
}

bool segments_are_lazy(void) { return true; }

bool segments_apply(bool strict) {
    bool changed = false;
    if (cpu.cpl == 3)
        cpu_refresh_tls();
    for (unsigned i = 0; i < ARRAY_SIZE(data_segments); i++) {
        enum segment_register which = data_segments[i];
        const struct segment *segment = &cpu.segments[which];
        u16 wanted = is_null(segment) ? 0 : HOST_DS;
        if (!has_base(which) && wanted && segment->base)
            crash("segment register %u with selector %x has base %x: only FS and GS may", which,
                  (u32)segment->selector, segment->base);
        /* The kernel's flat FS and GS may stay null until something uses them: that faults. */
        if (!strict && cpu.cpl == 0 && has_base(which) && !real_selector[which] && !segment->base)
            continue;
        if (real_selector[which] != wanted) {
            write_selector(which, wanted);
            real_selector[which] = wanted;
            real_base[which] = 0;
            changed = true;
        }
        if (has_base(which) && wanted && real_base[which] != segment->base) {
            write_base(which, segment->base);
            real_base[which] = segment->base;
            changed = true;
        }
    }
    if (cpu.cpl == 3)
        know_tls();
    return changed;
}
