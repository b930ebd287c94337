/*
 * Segments. Xen's descriptor table mirrors the guest's, so that user code
 * loads its own selectors natively; the guest's ring 0 is ring 2 there. Behind
 * the mirror lie flat segments for ring 2, and one slot a register for what
 * the mirror cannot serve: a descriptor that the guest has changed since it
 * was loaded, one of its LDT.
 */

#include "core/crash.h"
#include "run/state.h"
#include "xen.h"

#define MIRRORED 512u
#define SLOT_CODE 512u
#define SLOT_DATA 513u
#define SLOT_REGISTER 514u /* and five more */
#define SLOTS 520u

/* Upper words of flat 4 GiB segments of ring 2: present, accessed, big, page-granular. */
#define FLAT_CODE 0x00cfdb00u
#define FLAT_DATA 0x00cfd300u

struct descriptor {
    u32 low, high;
};

static struct descriptor table[2 * MIRRORED] __attribute__((aligned(4096)));
static u64 machine_address[2];

#define real_selector control.real_selectors
static u16 loaded[6] __attribute__((aligned(4))); /* what the way out has loaded last */

/* Segments whose own selectors served while Xen's table was as it is now: `epoch` counts its changes. */
static struct segment served[6];
static u32 served_epoch[6], epoch = 1;

static bool same(struct descriptor a, struct descriptor b) { return a.low == b.low && a.high == b.high; }

static bool set_descriptor(u32 slot, struct descriptor value) {
    if (same(table[slot], value))
        return false;
    u64 at = machine_address[slot / MIRRORED] + slot % MIRRORED * 8;
    long result = HYPERCALL(update_descriptor, at, at >> 32, value.low, value.high);
    if (result)
        xen_refused("update_descriptor", result, value.low, value.high);
    epoch++;
    return true;
}

/* A guest descriptor as Xen's table may hold it: only segments, of ring 2 or 3, accessed, or nothing. */
static struct descriptor mirrored(struct descriptor guest) {
    u16 attributes = guest.high >> 8 & 0xf0ff;
    if ((attributes & (ATTR_PRESENT | ATTR_S)) != (ATTR_PRESENT | ATTR_S))
        return (struct descriptor){0, 0};
    u32 level = dpl(attributes) < GUEST_RING ? GUEST_RING : dpl(attributes);
    guest.high = (guest.high & ~(3u << 13)) | level << 13 | ATTR_ACCESSED << 8;
    return guest;
}

/* The descriptor that a segment register was loaded from, as far as its cache tells. */
static struct descriptor of_segment(const struct segment *segment) {
    u32 limit = segment->attributes & ATTR_GRANULARITY ? segment->limit >> 12 : segment->limit;
    return mirrored((struct descriptor){
        .low = (limit & 0xffff) | segment->base << 16,
        .high = (segment->base >> 16 & 0xff) | (segment->base & 0xff000000) | (limit & 0xf0000) |
                (u32)(segment->attributes & 0xf0ff) << 8,
    });
}

static struct descriptor seen[MIRRORED]; /* the guest's table as it was mirrored */

static void watch(u32 slot);

/* What user code may load. */
static bool is_users(struct descriptor value) { return dpl(value.high >> 8 & 0xff) == 3; }

static bool mirror_slot(u32 slot) {
    struct descriptor guest = {0, 0};
    if (slot * 8 + 7 <= cpu.gdtr.limit)
        guest_read(gva(cpu.gdtr.base + slot * 8), &guest, 8, 0);
    bool news = !same(guest, seen[slot]);
    seen[slot] = guest;
    if (slot && news && is_users(mirrored(guest)))
        watch(slot);
    return slot && set_descriptor(slot, mirrored(guest));
}

/* Before user code runs, which loads what it likes. */
static bool mirror_all(void) {
    u32 slots = (cpu.gdtr.limit + 1) / 8;
    bool changed = false;
    for (u32 slot = 0; slot < slots && slot < MIRRORED;) {
        gva_t at = gva(cpu.gdtr.base + slot * 8);
        const struct descriptor *guest = mmu_pointer(at, 0);
        u32 count = (PAGE_SIZE - (at.value & ~PAGE_MASK)) / 8;
        if (count > slots - slot)
            count = slots - slot;
        if (!guest || !count) {
            changed |= mirror_slot(slot++);
            continue;
        }
        if (count > MIRRORED - slot)
            count = MIRRORED - slot;
        const struct descriptor *end = guest + count, *known = &seen[slot];
        while (guest < end && !((guest->low ^ known->low) | (guest->high ^ known->high)))
            guest++, known++;
        slot += count - (end - guest);
        if (guest < end)
            changed |= mirror_slot(slot++);
    }
    return changed;
}

/*
 * What user code may load at any time and the guest changes by plain stores:
 * the short way back to user code compares these with the guest's table
 * (entry.S), up to the first one without an address. What there is no room for
 * leaves Xen's table, so that loading it faults.
 */
static void watch(u32 slot) {
    static u32 next;
    u32 address = cpu.gdtr.base + slot * 8;
    struct known_descriptor *free = NULL;
    for (u32 i = 0; i < WATCHED && !free; i++) {
        if (control.watched[i].address == address)
            return;
        if (!control.watched[i].address)
            free = &control.watched[i];
    }
    if (!free) {
        free = &control.watched[next++ % WATCHED];
        u32 old = (free->address - cpu.gdtr.base) / 8;
        if (old < MIRRORED) {
            seen[old] = (struct descriptor){0, 0};
            set_descriptor(old, seen[old]);
        }
    }
    *free = (struct known_descriptor){address, seen[slot].low, seen[slot].high};
}

static void unwatch(u32 address) {
    for (u32 i = 0; i < WATCHED; i++)
        if (control.watched[i].address == address) {
            for (; i + 1 < WATCHED; i++)
                control.watched[i] = control.watched[i + 1];
            control.watched[i].address = 0;
        }
}

/* The segments that user code has now are compared apart (enter.c). */
static void watch_others(u32 *apart, u32 now) {
    if (*apart == now)
        return;
    if (*apart)
        watch((*apart - cpu.gdtr.base) / 8);
    unwatch(now);
    *apart = now;
}

static u32 code_apart, data_apart;

static void know_watched(void) {
    if (control.user_code.address) {
        watch_others(&code_apart, control.user_code.address);
        watch_others(&data_apart, control.user_data.address);
    }
    for (u32 i = 0; i < WATCHED && control.watched[i].address; i++) {
        struct known_descriptor *known = &control.watched[i];
        u32 slot = (known->address - cpu.gdtr.base) / 8;
        if (slot < MIRRORED) {
            known->low = seen[slot].low;
            known->high = seen[slot].high;
        }
    }
}

/* The guest's table lies elsewhere now. */
static void forget_mirror(void) {
    memset(seen, 0, sizeof seen);
    memset(control.watched, 0, sizeof control.watched);
    code_apart = data_apart = 0;
}

/* In the processor, as Xen puts it there when it is used. */
const void *port_fpu_kept(void) { return NULL; }

void segments_start(void) {
    table[SLOT_CODE] = (struct descriptor){0xffff, FLAT_CODE};
    table[SLOT_DATA] = (struct descriptor){0xffff, FLAT_DATA};
    unsigned long frames[2];
    for (u32 i = 0; i < 2; i++) {
        mfn_t machine = memory_own_page(&table[i * MIRRORED]);
        memory_map_own(&table[i * MIRRORED], machine, false);
        machine_address[i] = (u64)machine.value << 12;
        frames[i] = machine.value;
    }
    long result = HYPERCALL(set_gdt, frames, SLOTS);
    if (result)
        xen_refused("set_gdt", result, frames[0], frames[1]);
}

void segments_capture(void) {
    for (enum segment_register which = ES; which <= GS; which++) {
        u16 selector = real_selector[which];
        if (which == CS || which == SS || selector == loaded[which])
            continue;
        loaded[which] = selector;
        /* Loaded natively by user code. */
        struct segment old = cpu.segments[which];
        struct exception pending = exception;
        if (!cpu_load_segment(which, selector)) {
            cpu.segments[which] = old;
            cpu.segments[which].selector = selector;
            exception = pending;
        }
    }
}

static bool same_segment(const struct segment *a, const struct segment *b) {
    return a->base == b->base && a->limit == b->limit && a->selector == b->selector && a->attributes == b->attributes;
}

static bool is_null(const struct segment *segment) { return !(segment->selector & ~3u); }

/* The real selector for a segment register; `*changed` is set if a descriptor had to be. */
static u16 real_for(enum segment_register which, bool *changed) {
    const struct segment *segment = &cpu.segments[which];
    if (is_null(segment) || (served_epoch[which] == epoch && same_segment(segment, &served[which])))
        return segment->selector;
    struct descriptor wanted = of_segment(segment);
    u32 slot = segment->selector >> 3;
    if (!(segment->selector & 4) && slot < MIRRORED) {
        if (!same(table[slot], wanted))
            *changed |= mirror_slot(slot);
        if (same(table[slot], wanted)) {
            served[which] = *segment;
            served_epoch[which] = epoch;
            return segment->selector;
        }
    }
    *changed |= set_descriptor(SLOT_REGISTER + which, wanted);
    return (SLOT_REGISTER + which) << 3 | (cpu.cpl == 3 ? 3 : GUEST_RING);
}

/* The registers of the kernel when they were last applied, and with which of Xen's tables. */
static struct segment applied[6];
static u32 applied_epoch;

static inline u32 difference(const void *a, const void *b, u32 words) {
    typedef u32 __attribute__((may_alias)) word;
    const word *left = a, *right = b;
    u32 differing = 0;
#pragma GCC unroll 18
    for (u32 i = 0; i < words; i++)
        differing |= left[i] ^ right[i];
    return differing;
}

/* Whether they are that still, and nothing else was loaded since. */
static bool still_applied(void) {
    return !((applied_epoch ^ epoch) | difference(applied, cpu.segments, sizeof applied / 4) |
             difference(loaded, real_selector, sizeof loaded / 4));
}

static bool is_flat(const struct segment *segment) { return segment->base == 0; }

bool segments_are_lazy(void) { return false; }

bool segments_apply(bool strict) {
    static u32 base;
    (void)strict;
    bool changed = false;
    if (cpu.cpl != 3 && still_applied())
        return false;
    if (cpu.gdtr.base != base) {
        base = cpu.gdtr.base;
        forget_mirror();
    }
    if (cpu.cpl == 3) {
        changed = mirror_all();
        cpu_refresh_tls();
    }
    for (enum segment_register which = ES; which <= GS; which++) {
        u16 selector;
        bool fixed = (which == CS || which == SS) && cpu.cpl != 3;
        if (fixed && !is_flat(&cpu.segments[which]))
            crash("segment register %u with selector %x has a base: the kernel's CS and SS may not", which,
                  (u32)cpu.segments[which].selector);
        if (fixed)
            selector = (which == CS ? SLOT_CODE : SLOT_DATA) << 3 | GUEST_RING;
        else
            selector = real_for(which, &changed);
        changed |= selector != real_selector[which];
        real_selector[which] = loaded[which] = selector;
    }
    if (cpu.cpl == 3)
        know_watched();
    memcpy(applied, cpu.segments, sizeof applied);
    applied_epoch = epoch;
    return changed;
}
