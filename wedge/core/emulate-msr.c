/*
 * The emulator: model-specific registers, the time-stamp counter among them, and XCR0.
 */

#include "handlers.h"

enum outcome emulate_rdtsc(void) {
    if ((cpu.cr4 & CR4_TSD) && !is_kernel())
        return general_protection();
    u64 value = port_tsc() + cpu.tsc_offset;
    cpu.gpr[EAX] = value;
    cpu.gpr[EDX] = value >> 32;
    return OUTCOME_NEXT;
}

enum outcome do_rdtsc(const struct instruction *i) {
    (void)i;
    return emulate_rdtsc();
}

static bool have_rdtscp(void) {
    static bool asked, have;
    if (!asked) {
        u32 host[4];
        port_cpuid(0x80000001, 0, host);
        have = host[3] >> 27 & 1;
        asked = true;
    }
    return have;
}

enum outcome emulate_rdtscp(void) {
    if (!have_rdtscp())
        return undefined();
    enum outcome outcome = emulate_rdtsc();
    if (outcome == OUTCOME_NEXT)
        cpu.gpr[ECX] = cpu.tsc_aux;
    return outcome;
}

/* MSRs with a place of their own; the width says how many bits are kept. */
static const struct {
    u32 number;
    u16 offset; /* in struct cpu */
    u8 bytes;
} msrs[] = {
    {0x00000174, __builtin_offsetof(struct cpu, sysenter_cs), 4},
    {0x00000175, __builtin_offsetof(struct cpu, sysenter_esp), 4},
    {0x00000176, __builtin_offsetof(struct cpu, sysenter_eip), 4},
    {0x000001a0, __builtin_offsetof(struct cpu, misc_enable), 8},
    {0x00000277, __builtin_offsetof(struct cpu, pat), 8},
    {0xc0000103, __builtin_offsetof(struct cpu, tsc_aux), 8},
};

static void *msr(u32 number, unsigned *bytes) {
    for (unsigned row = 0; row < ARRAY_SIZE(msrs); row++)
        if (msrs[row].number == number) {
            *bytes = msrs[row].bytes;
            return (u8 *)&cpu + msrs[row].offset;
        }
    return NULL;
}

/*
 * An MSR that does not exist reads as zero and forgets what is written, as on
 * the bare PC of the same machine version (QEMU's TCG).
 */
enum outcome emulate_rdmsr(void) {
    if (!is_kernel())
        return general_protection();
    u64 value = 0;
    unsigned bytes;
    void *place = msr(cpu.gpr[ECX], &bytes);
    if (place)
        memcpy(&value, place, bytes);
    else if (cpu.gpr[ECX] == 0x10)
        value = port_tsc() + cpu.tsc_offset;
    cpu.gpr[EAX] = value;
    cpu.gpr[EDX] = value >> 32;
    return OUTCOME_NEXT;
}

enum outcome emulate_wrmsr(void) {
    if (!is_kernel())
        return general_protection();
    u64 value = cpu.gpr[EAX] | (u64)cpu.gpr[EDX] << 32;
    unsigned bytes;
    void *place = msr(cpu.gpr[ECX], &bytes);
    if (place)
        memcpy(place, &value, bytes);
    else if (cpu.gpr[ECX] == 0x10)
        cpu.tsc_offset = value - port_tsc();
    return OUTCOME_NEXT;
}

enum outcome do_rdmsr(const struct instruction *i) {
    (void)i;
    return emulate_rdmsr();
}

enum outcome do_wrmsr(const struct instruction *i) {
    (void)i;
    return emulate_wrmsr();
}

enum outcome do_rdpmc(const struct instruction *i) {
    (void)i;
    return general_protection(); /* no performance counters */
}

bool guest_came;

/*
 * A program that started as a process of another host has seen OSXSAVE in its
 * CPUID, and executes xgetbv some microseconds later (glibc,
 * sysdeps/x86/cpu-features.c): it finds that there is no more than FXSAVE saves.
 */
static bool seen_elsewhere(void) { return guest_came && !is_kernel(); }

enum outcome emulate_xgetbv(void) {
    bool open = cpu.cr4 & CR4_OSXSAVE;
    if (!open && !seen_elsewhere())
        return undefined();
    if (cpu.gpr[ECX] != 0)
        return general_protection();
    u64 value = open ? cpu.xcr0 : XCR0_X87 | XCR0_SSE;
    cpu.gpr[EAX] = value;
    cpu.gpr[EDX] = value >> 32;
    return OUTCOME_NEXT;
}

enum outcome emulate_xsetbv(void) {
    if (!(cpu.cr4 & CR4_OSXSAVE))
        return undefined();
    u64 value = cpu.gpr[EAX] | (u64)cpu.gpr[EDX] << 32;
    u32 host[4];
    port_cpuid(0xd, 0, host);
    u64 supported = host[0] | (u64)host[3] << 32;
    if (!is_kernel() || cpu.gpr[ECX] != 0 || !(value & 1) || (value & ~supported))
        return general_protection();
    cpu.xcr0 = value;
    return OUTCOME_NEXT;
}
