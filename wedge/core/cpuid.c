/*
 * CPUID: what the guest knows of its processor.
 */

#include "crash.h"
#include "handlers.h"
#include "generated/machine-state.h"

/*
 * Features that this virtual CPU has, as masks over what the host has: what
 * user code could use anyway, less what the guest kernel would have to manage
 * and cannot. Words that are not in the table read as zero.
 */
#define OSXSAVE (1u << 27) /* leaf 1, ECX */

static const struct {
    u32 leaf, subleaf; /* subleaf ~0: any */
    u32 eax, ebx, ecx, edx;
} cpuid_masks[] = {
    {0x00000000, ~0u, ~0u, ~0u, ~0u, ~0u},
    /*  SSE3 PCLMUL SSSE3 FMA CX16 SSE4.1 SSE4.2 MOVBE POPCNT AES XSAVE AVX F16C RDRAND;
        FPU DE PSE TSC MSR PAE CX8 PGE CMOV CLFSH MMX FXSR SSE SSE2 */
    {0x00000001, ~0u, ~0u, 0x0000ffff, 0x76d83203, 0x0788a17d},
    /*  BMI AVX2 BMI2 ERMS AVX512 RDSEED ADX CLFLUSHOPT CLWB SHA; VBMI GFNI VAES VNNI RDPID; FSRM */
    {0x00000007, 0, 0, 0xfdaf0328, 0x00405f42, 0x00000110},
    {0x0000000d, 0, ~0u, ~0u, ~0u, ~0u},
    {0x0000000d, 1, 0x5, 0, 0, 0}, /* XSAVEOPT; the compacted forms need IA32_XSS */
    {0x0000000d, ~0u, ~0u, ~0u, ~0u, ~0u},
    {0x80000000, ~0u, ~0u, ~0u, ~0u, ~0u},
    /*  LAHF ABM SSE4A MISALIGNSSE 3DNOWPREFETCH; MMXEXT RDTSCP and leaf 1's legacy bits */
    {0x80000001, ~0u, ~0u, ~0u, 0x000001e1, 0x09c0a17d},
    {0x80000002, ~0u, ~0u, ~0u, ~0u, ~0u},
    {0x80000003, ~0u, ~0u, ~0u, ~0u, ~0u},
    {0x80000004, ~0u, ~0u, ~0u, ~0u, ~0u},
};

static u32 limits[ARRAY_SIZE(feature_words)];

static void virtual_cpuid(u32 leaf, u32 subleaf, u32 masked[4]) {
    u32 host[4];
    memset(masked, 0, 4 * sizeof masked[0]);
    port_cpuid(leaf, subleaf, host);
    for (unsigned row = 0; row < ARRAY_SIZE(cpuid_masks); row++) {
        if (cpuid_masks[row].leaf != leaf || (cpuid_masks[row].subleaf != ~0u && cpuid_masks[row].subleaf != subleaf))
            continue;
        masked[0] = host[0] & cpuid_masks[row].eax;
        masked[1] = host[1] & cpuid_masks[row].ebx;
        masked[2] = host[2] & cpuid_masks[row].ecx;
        masked[3] = host[3] & cpuid_masks[row].edx;
        break;
    }
    if (leaf == 0 && masked[0] > 0xd)
        masked[0] = 0xd;
    if (leaf == 0x80000000 && masked[0] > 0x80000004)
        masked[0] = 0x80000004;
    for (unsigned i = 0; i < ARRAY_SIZE(feature_words); i++)
        if (feature_words[i].leaf == leaf && feature_words[i].subleaf == subleaf)
            masked[feature_words[i].word] &= limits[i];
    if (leaf == 1 && (cpu.cr4 & CR4_OSXSAVE))
        masked[2] |= OSXSAVE;
}

void cpu_features(u32 *words) {
    for (unsigned i = 0; i < ARRAY_SIZE(feature_words); i++) {
        u32 result[4];
        virtual_cpuid(feature_words[i].leaf, feature_words[i].subleaf, result);
        words[i] = result[feature_words[i].word];
        if (feature_words[i].leaf == 1 && feature_words[i].word == 2)
            words[i] &= ~OSXSAVE; /* what the guest chose, not what there is */
    }
}

bool cpu_limit_features(const u32 *words, bool strict) {
    u32 available[ARRAY_SIZE(feature_words)];
    memset(limits, 0xff, sizeof limits);
    cpu_features(available);
    for (unsigned i = 0; i < ARRAY_SIZE(feature_words); i++)
        if (strict && words[i] & ~available[i]) {
            report("previrt: this processor lacks what the guest knows it has: leaf %x, word %u, bits %x",
                   feature_words[i].leaf, feature_words[i].word, words[i] & ~available[i]);
            return false;
        }
    memcpy(limits, words, sizeof limits);
    return true;
}

enum outcome emulate_cpuid(void) {
    u32 masked[4];
    virtual_cpuid(cpu.gpr[EAX], cpu.gpr[ECX], masked);
    cpu.gpr[EAX] = masked[0];
    cpu.gpr[EBX] = masked[1];
    cpu.gpr[ECX] = masked[2];
    cpu.gpr[EDX] = masked[3];
    return OUTCOME_NEXT;
}

enum outcome do_cpuid(const struct instruction *i) {
    (void)i;
    return emulate_cpuid();
}

