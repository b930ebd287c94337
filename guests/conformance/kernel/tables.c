/* The descriptor tables and the task state segment. */
#include "guest.h"

u32 gdt[GDT_ENTRIES][2] __attribute__((aligned(16)));
u32 ldt[4][2] __attribute__((aligned(16)));
u32 idt[256][2] __attribute__((aligned(16)));
struct tss tss __attribute__((aligned(16)));
static struct tss spare_tss;
u32 entry_stack[2048];

struct table_register operand_gdt, operand_idt;
u16 operand_selector;
u32 operand_far[2];
u8 operand_bytes[64];
u8 scratch_stack[2 * PAGE_SIZE] __attribute__((aligned(4096)));

extern const u8 trap_stubs[], gate_target[];

void set_descriptor(u32 words[2], u32 base, u32 limit, u32 attributes) {
    words[0] = base << 16 | (limit & 0xffff);
    words[1] = (base & 0xff000000) | (attributes & 0xf000) << 8 | (limit & 0xf0000) |
               (attributes & 0xff) << 8 | (base >> 16 & 0xff);
}

void set_gate(u32 vector, u32 offset, u32 selector, u32 attributes) {
    idt[vector][0] = selector << 16 | (offset & 0xffff);
    idt[vector][1] = (offset & 0xffff0000) | attributes << 8;
}

enum { FLAT = 0xfffff, TRAP_GATE_USER = 0xef, INTERRUPT_GATE = 0x8e, INTERRUPT_GATE_USER = 0xee,
       NO_GATE_USER = 0x6e };

/* Attributes: bits 0-7 are type, S, DPL, P; bits 12-15 are AVL, L, D/B, G. */
static const struct {
    u32 selector, base, limit, attributes;
} descriptors[] = {
    {KERNEL_CS, 0, FLAT, 0xc09b},
    {KERNEL_DS, 0, FLAT, 0xc093},
    {USER_CS, 0, FLAT, 0xc0fb},
    {USER_DS, 0, FLAT, 0xc0f3},
    {TLS_A, 0, FLAT, 0xc0f3},
    {TLS_B, 0, FLAT, 0xc0f3},
    {TSS_SELECTOR, (u32)&tss, sizeof tss - 1, 0x89},
    {LDT_SELECTOR, (u32)ldt, sizeof ldt - 1, 0x82},
    {ABSENT_DATA, 0, FLAT, 0xc013},
    {ABSENT_CODE, 0, FLAT, 0xc01b},
    {READ_ONLY_DATA, 0, FLAT, 0xc091},
    {EXECUTE_ONLY, 0, FLAT, 0xc099},
    {CONFORMING_CS, 0, FLAT, 0xc09f},
    {SMALL_DATA, 0, 0xfff, 0x40f3},
    {ABSENT_USER, 0, FLAT, 0xc073},
    {SPARE_TSS, (u32)&spare_tss, 0x67, 0x89},
    {BASED_DATA, USER_DATA, 0xfff, 0x40f3},
};

void tables_init(void) {
    for (u32 i = 0; i < ARRAY_SIZE(descriptors); i++)
        set_descriptor(gdt[descriptors[i].selector >> 3], descriptors[i].base, descriptors[i].limit,
                       descriptors[i].attributes);
    gdt[CALL_GATE >> 3][0] = KERNEL_CS << 16 | ((u32)gate_target & 0xffff);
    gdt[CALL_GATE >> 3][1] = ((u32)gate_target & 0xffff0000) | 0xec00;
    set_descriptor(ldt[1], 0, FLAT, 0xc0f3); /* selector 0xf */

    for (u32 vector = 0; vector < 256; vector++)
        set_gate(vector, (u32)trap_stubs + 16 * vector, KERNEL_CS, INTERRUPT_GATE);
    set_gate(3, (u32)trap_stubs + 16 * 3, KERNEL_CS, INTERRUPT_GATE_USER);
    set_gate(4, (u32)trap_stubs + 16 * 4, KERNEL_CS, INTERRUPT_GATE_USER);
    set_gate(GATE_ABSENT, (u32)trap_stubs + 16 * GATE_ABSENT, KERNEL_CS, NO_GATE_USER);
    set_gate(GATE_SYSCALL, (u32)trap_stubs + 16 * GATE_SYSCALL, KERNEL_CS, INTERRUPT_GATE_USER);
    set_gate(GATE_TRAP, (u32)trap_stubs + 16 * GATE_TRAP, KERNEL_CS, TRAP_GATE_USER);

    tss.esp0 = (u32)(entry_stack + ARRAY_SIZE(entry_stack));
    tss.ss0 = KERNEL_DS;
    tss.bitmap_offset = sizeof tss; /* beyond the limit: no port is allowed */
    memset(tss.bitmap, 0xff, sizeof tss.bitmap);

    operand_gdt = (struct table_register){sizeof gdt - 1, (u32)gdt};
    operand_idt = (struct table_register){sizeof idt - 1, (u32)idt};
}

void load_gdt(void) {
    asm volatile("lgdt %0\n\t"
                 "ljmp %1, $1f\n"
                 "1: mov %2, %%ds\n\t"
                 "mov %2, %%es\n\t"
                 "mov %2, %%ss\n\t"
                 "mov %3, %%fs\n\t"
                 "mov %3, %%gs"
                 :
                 : "m"(operand_gdt), "i"(KERNEL_CS), "r"(KERNEL_DS), "r"(0)
                 : "memory");
}

void load_idt(void) { asm volatile("lidt %0" : : "m"(operand_idt) : "memory"); }

void load_task(void) {
    gdt[TSS_SELECTOR >> 3][1] &= ~0x200u; /* not busy */
    asm volatile("ltr %w0" : : "r"(TSS_SELECTOR) : "memory");
    asm volatile("lldt %w0" : : "r"(0) : "memory");
}
