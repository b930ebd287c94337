/*
 * The state of FPU and vector registers, which the wedge itself never touches:
 * taken as user code left it and put back (SDM vol. 1, 10.5 and 13).
 */

#include "core/cpu.h"
#include "core/emulate.h"
#include "run.h"
#include "state.h"

/* x87, SSE, AVX, MPX, AVX-512 and PKRU: all that fits into `fpu`. */
#define COMPONENTS 0x2ffu
#define FXSAVE_SIZE 512u
#define HEADER_AT FXSAVE_SIZE /* XSTATE_BV, its first word */

static bool has_xsave(void) {
    u32 registers[4];
    port_cpuid(1, 0, registers);
    return registers[2] >> 27 & 1; /* OSXSAVE */
}

static u32 components(void) {
    u32 low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low & COMPONENTS;
}

/* Bytes of the components that are enabled now. */
static u32 xsave_size(void) {
    u32 size = FXSAVE_SIZE + 64, registers[4];
    for (u32 i = 2; i < 32; i++) {
        if (!(components() >> i & 1))
            continue;
        port_cpuid(0xd, i, registers);
        if (registers[0] + registers[1] > size)
            size = registers[0] + registers[1];
    }
    return size;
}

void fpu_take(struct machine_state *state) {
    static u8 area[FPU_SIZE] __attribute__((aligned(64)));
    const void *kept = port_fpu_kept();
    /* A guest that does not use XSAVE has no more than what FXSAVE saves, which comes first in either form. */
    bool extended = cpu.cr4 & CR4_OSXSAVE;
    state->fpu_format = extended ? FPU_XSAVE : FPU_FXSAVE;
    state->fpu_size = extended ? xsave_size() : FXSAVE_SIZE;
    memset(area, 0, sizeof area);
    if (kept)
        memcpy(area, kept, state->fpu_size);
    else if (extended)
        __asm__ volatile("xsave %0" : "+m"(area) : "a"(components()), "d"(0));
    else
        __asm__ volatile("fxsave %0" : "+m"(area));
    memset(area + 464, 0, 48); /* belongs to software */
    memcpy(state->fpu, area, state->fpu_size);
}

bool fpu_put(const struct machine_state *state) {
    static u8 area[FPU_SIZE] __attribute__((aligned(64)));
    memcpy(area, state->fpu, state->fpu_size);
    if (state->fpu_format == FPU_FXSAVE) {
        __asm__ volatile("fxrstor %0" : : "m"(area));
        return true;
    }
    if (!has_xsave() || *(u32 *)(area + HEADER_AT) & ~components())
        return false;
    __asm__ volatile("xrstor %0" : : "m"(area), "a"(components()), "d"(0));
    return true;
}
