/* Gives each code of sites.h the stack and operands it needs to succeed in the kernel. */
#include "guest.h"

extern u8 user_data[];

/* A frame or words to pop. END stands for the code's end, in whichever program it runs, SECOND for its second marked instruction. */
enum { END = 0xe4d, SECOND = 0x5ec };

static const struct {
    enum code_id code;
    u32 count;
    u32 words[3];
} stacks[] = {
    {CODE_pop_eax, 1, {0x1234}},
    {CODE_popf, 1, {FIXED | ARITHMETIC}},
    {CODE_popfw, 1, {FIXED | ARITHMETIC}},
    {CODE_iret, 3, {END, KERNEL_CS, FIXED | CF | ZF}},
    {CODE_popf_nops, 1, {FIXED | IF}},
    {CODE_iret_nops, 3, {SECOND, KERNEL_CS, FIXED | IF}},
    {CODE_pop_ss, 1, {KERNEL_DS}},
    {CODE_pop_ds, 1, {KERNEL_DS}},
    {CODE_pop_es, 1, {KERNEL_DS}},
    {CODE_pop_fs, 1, {TLS_A}},
    {CODE_pop_gs, 1, {TLS_B}},
    {CODE_far_ret, 2, {END, KERNEL_CS}},
    {CODE_far_ret_release, 2, {END, KERNEL_CS}},
};

static const struct {
    enum code_id code;
    u32 selector;
} selectors[] = {
    {CODE_lmsw_memory, CR0_VALUE & 0xffff},
    {CODE_lldt_memory, LDT_SELECTOR},
    {CODE_ltr_memory, SPARE_TSS},
    {CODE_mov_to_gs_memory, TLS_B},
};

static const struct {
    enum code_id code;
    u32 offset, selector;
} pointers[] = {
    {CODE_lds, 0x1234, KERNEL_DS},
    {CODE_les, 0x1234, KERNEL_DS},
    {CODE_lfs, 0x1234, TLS_A},
    {CODE_lgs, 0x1234, TLS_B},
    {CODE_lss, (u32)scratch_stack + 64, KERNEL_DS},
    {CODE_far_call_memory, 0, CALL_GATE},
    {CODE_far_jmp_memory, END, KERNEL_CS},
};

static u32 resolve(u32 word, const struct code *code, bool user) {
    if (word == SECOND)
        return mark_address(code, 1);
    return word == END ? (u32)(user ? code->user_end : code->end) : word;
}

static struct regs prepare_for(const struct code *code, bool user) {
    struct regs regs = inputs(code);
    enum code_id id = (enum code_id)(code - codes);
    memset(operand_bytes, 0, sizeof operand_bytes);
    memset(scratch_stack, 0, sizeof scratch_stack);
    operand_selector = 0;
    operand_far[0] = operand_far[1] = 0;
    gdt[SPARE_TSS >> 3][1] &= ~0x200u;
    for (u32 i = 0; i < ARRAY_SIZE(stacks); i++)
        if (stacks[i].code == id)
            for (u32 n = stacks[i].count; n--;) {
                if (!regs.esp)
                    regs.esp = user ? USER_STACK_TOP - 64 : (u32)scratch_stack + sizeof scratch_stack - 64;
                regs.esp -= 4;
                *(u32 *)regs.esp = resolve(stacks[i].words[n], code, user);
            }
    for (u32 i = 0; i < ARRAY_SIZE(selectors); i++)
        if (selectors[i].code == id)
            operand_selector = (u16)selectors[i].selector;
    for (u32 i = 0; i < ARRAY_SIZE(pointers); i++)
        if (pointers[i].code == id) {
            operand_far[0] = resolve(pointers[i].offset, code, user);
            operand_far[1] = pointers[i].selector;
        }
    return regs;
}

struct regs prepare(const struct code *code) { return prepare_for(code, false); }

/* A kernel operand's copy in the user data page; any other value as it is. */
static u32 user_operand(u32 address) {
    static const struct {
        const void *operand;
        u32 size;
    } operands[] = {
        {&operand_gdt, sizeof operand_gdt},           {&operand_idt, sizeof operand_idt},
        {&operand_selector, sizeof operand_selector}, {operand_far, sizeof operand_far},
        {operand_bytes, sizeof operand_bytes},
    };
    for (u32 i = 0; i < ARRAY_SIZE(operands); i++)
        if (address == (u32)operands[i].operand) {
            memcpy(user_data + 64 * i, operands[i].operand, operands[i].size);
            return USER_DATA + 64 * i;
        }
    return address;
}

struct regs prepare_user(const struct code *code) {
    struct regs regs = prepare_for(code, true);
    regs.esi = user_operand(regs.esi);
    regs.edi = user_operand(regs.edi);
    return regs;
}
