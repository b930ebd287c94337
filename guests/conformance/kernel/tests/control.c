/* Control and debug registers, machine-specific registers, identification, the time-stamp counter. */
#include "../guest.h"

static u32 cr0_after(u32 value) {
    struct regs in = inputs(&codes[CODE_mov_to_cr0]);
    in.eax = value;
    run(&codes[CODE_mov_to_cr0], &in);
    return read_cr0();
}

TEST(control, cr0) {
    static const u32 bits[] = {0, CR0_MP, CR0_EM, CR0_TS, CR0_MP | CR0_TS, CR0_AM, CR0_TS | CR0_AM};
    for (u32 i = 0; i < ARRAY_SIZE(bits); i++) {
        u32 after = cr0_after(CR0_VALUE | bits[i]);
        write_cr0(CR0_VALUE);
        say("%x: %x", CR0_VALUE | bits[i], after);
    }
    say("without WP: %x", cr0_after(CR0_VALUE & ~CR0_WP));
}

TEST(control, lmsw) {
    static const u32 values[] = {CR0_PE | CR0_TS, CR0_PE, 0, CR0_TS | CR0_EM | CR0_MP, CR0_PE};
    for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
        struct regs in = inputs(&codes[CODE_lmsw]);
        in.eax = values[i];
        run(&codes[CODE_lmsw], &in);
        u32 after = read_cr0();
        in = inputs(&codes[CODE_smsw]);
        run(&codes[CODE_smsw], &in);
        u32 word = result.regs.eax & 0xffff;
        write_cr0(CR0_VALUE);
        say("%x: cr0 %x smsw %x", values[i], after, word);
    }
}

TEST(control, clts) {
    write_cr0(CR0_VALUE | CR0_TS | CR0_MP);
    struct regs in = inputs(&codes[CODE_clts]);
    run(&codes[CODE_clts], &in);
    u32 after = read_cr0();
    write_cr0(CR0_VALUE);
    say("%x", after);
}

TEST(control, cr2) {
    static const u32 values[] = {0, 0xffffffff, 0x12345678};
    for (u32 i = 0; i < ARRAY_SIZE(values); i++) {
        struct regs in = inputs(&codes[CODE_mov_to_cr2]);
        in.ebx = values[i];
        run(&codes[CODE_mov_to_cr2], &in);
        in = inputs(&codes[CODE_mov_from_cr2]);
        run(&codes[CODE_mov_from_cr2], &in);
        say("%x: %x", values[i], result.regs.edx);
    }
}

TEST(control, cr3) {
    u32 *const directories[] = {page_directory, other_directory, page_directory};
    for (u32 i = 0; i < ARRAY_SIZE(directories); i++) {
        struct regs in = inputs(&codes[CODE_mov_to_cr3]);
        in.esi = (u32)directories[i];
        run(&codes[CODE_mov_to_cr3], &in);
        in = inputs(&codes[CODE_mov_from_cr3]);
        run(&codes[CODE_mov_from_cr3], &in);
        say("%x: %x", (u32)directories[i], result.regs.ecx);
    }
}

TEST(control, cr4) {
    static const u32 bits[] = {0, CR4_PSE, CR4_PGE, CR4_VALUE, CR4_VALUE | 4, CR4_VALUE | 8};
    for (u32 i = 0; i < ARRAY_SIZE(bits); i++) {
        struct regs in = inputs(&codes[CODE_mov_to_cr4]);
        in.edi = bits[i];
        run(&codes[CODE_mov_to_cr4], &in);
        in = inputs(&codes[CODE_mov_from_cr4]);
        run(&codes[CODE_mov_from_cr4], &in);
        say("%x: %x", bits[i], result.regs.ebp);
    }
}

/* CR4.TSD keeps the time-stamp counter from user code. */
TEST(control, tsd) {
    struct regs in = inputs(&codes[CODE_rdtsc]);
    write_cr4(CR4_VALUE | 4);
    run(&codes[CODE_rdtsc], &in);
    say_result(&codes[CODE_rdtsc], &in, "kernel: ");
    run_user(&codes[CODE_rdtsc], &in);
    say_result(&codes[CODE_rdtsc], &in, "user, disabled: ");
    write_cr4(CR4_VALUE);
    run_user(&codes[CODE_rdtsc], &in);
    say_result(&codes[CODE_rdtsc], &in, "user, enabled: ");
}

TEST(control, debug_registers) {
    struct regs in = inputs(&codes[CODE_mov_to_dr0]);
    in.eax = 0x12345678;
    run(&codes[CODE_mov_to_dr0], &in);
    run(&codes[CODE_mov_from_dr0], &in);
    say("dr0 %x", result.regs.eax);
    in = inputs(&codes[CODE_mov_to_dr3]);
    run(&codes[CODE_mov_to_dr3], &in);
    u32 value;
    asm volatile("mov %%db3, %0" : "=r"(value));
    say("dr3 %x", value);
    static const u32 dr6[] = {0, 0xffffffff, 0x4000, 0xffff0ff0};
    for (u32 i = 0; i < ARRAY_SIZE(dr6); i++) {
        in = inputs(&codes[CODE_mov_to_dr6]);
        in.ecx = dr6[i];
        run(&codes[CODE_mov_to_dr6], &in);
        run(&codes[CODE_mov_from_dr6], &in);
        say("dr6 %x: %x", dr6[i], result.regs.ecx & 0xe00f); /* the reserved bits differ */
    }
    /* Nothing enabled, so nothing can match. */
    static const u32 dr7[] = {0, 0x400, 0x300, 0x33330400};
    for (u32 i = 0; i < ARRAY_SIZE(dr7); i++) {
        in = inputs(&codes[CODE_mov_to_dr7]);
        in.edx = dr7[i];
        run(&codes[CODE_mov_to_dr7], &in);
        run(&codes[CODE_mov_from_dr7], &in);
        say("dr7 %x: %x", dr7[i], result.regs.edx);
    }
    asm volatile("mov %0, %%db7; mov %1, %%db0; mov %1, %%db3" : : "r"(0x400), "r"(0));
}

TEST(control, sysenter_msrs) {
    for (u32 msr = 0x174; msr <= 0x176; msr++) {
        struct regs in = inputs(&codes[CODE_wrmsr]);
        in.ecx = msr;
        in.eax = msr == 0x174 ? KERNEL_CS : 0xc0de0000 + msr;
        run(&codes[CODE_wrmsr], &in);
        say_open();
        print_outcome(&codes[CODE_wrmsr]);
        in = inputs(&codes[CODE_rdmsr]);
        in.ecx = msr;
        run(&codes[CODE_rdmsr], &in);
        print(" %x: %x %x\n", msr, result.regs.edx, result.regs.eax);
        in = inputs(&codes[CODE_wrmsr]);
        in.ecx = msr;
        in.eax = 0;
        run(&codes[CODE_wrmsr], &in);
    }
}

TEST(control, cpuid) {
    static const struct {
        const char *name;
        u32 bit;
    } features[] = {{"fpu", 0}, {"pse", 3}, {"tsc", 4}, {"msr", 5}, {"pae", 6}, {"cx8", 8}, {"sep", 11}, {"pge", 13}, {"cmov", 15}};
    u32 out[4];
    cpuid(0, out);
    say("leaf 1 is there: %s", out[0] >= 1 ? "yes" : "no");
    cpuid(1, out);
    for (u32 i = 0; i < ARRAY_SIZE(features); i++)
        say("%s %u", features[i].name, out[3] >> features[i].bit & 1);
    say("apic %u", out[3] >> 9 & 1);
}

TEST(control, rdtsc) {
    bool monotonic = true;
    u64 last = rdtsc();
    for (u32 i = 0; i < 1000; i++) {
        u64 now = rdtsc();
        monotonic = monotonic && now >= last;
        last = now;
    }
    say("monotonic %s", monotonic ? "yes" : "no");
}

/* What the processor has not got is undefined; what it has, works. */
TEST(control, absent) {
    static const struct {
        enum code_id id;
        u32 leaf, reg, bit;
    } cases[] = {
        {CODE_rdtscp, 0x80000001, 3, 27}, {CODE_xgetbv, 1, 2, 27},   {CODE_monitor, 1, 2, 3},
        {CODE_invpcid, 7, 1, 10},         {CODE_rdfsbase, 0x64, 0, 0}, {CODE_wrfsbase, 0x64, 0, 0},
        {CODE_swapgs, 0x64, 0, 0},        {CODE_clac, 7, 1, 20},     {CODE_stac, 7, 1, 20},
    };
    for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
        u32 out[4] = {0}, last[4];
        cpuid(cases[i].leaf & 0x80000000, last);
        if (cases[i].leaf != 0x64 && last[0] >= cases[i].leaf)
            cpuid(cases[i].leaf, out);
        bool expected = out[cases[i].reg] >> cases[i].bit & 1;
        struct regs in = inputs(&codes[cases[i].id]);
        run(&codes[cases[i].id], &in);
        bool there = result.vector != 6;
        say("%s %s", codes[cases[i].id].name, there == expected ? "as cpuid says" : "not as cpuid says");
        note("%s vector %d, cpuid %u", codes[cases[i].id].name, result.vector, expected);
    }
}
