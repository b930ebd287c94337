/*
 * Operands where a substitution has to look twice: on the stack, in ESP, with
 * a scaled index, a long displacement or a segment of their own, of 16 bits.
 */
#include "../guest.h"

enum { WORDS = 6 };

/* The words on the stack as each code finds them; the last stays as it is. */
static void fill(u32 *words, enum code_id id) {
    static const struct {
        enum code_id id;
        u32 words[2];
    } wanted[] = {
        {CODE_lldt_esp, {LDT_SELECTOR, 0}},      {CODE_lmsw_esp, {0, CR0_VALUE & 0xffff}},
        {CODE_mov_to_gs_esp, {TLS_B, 0}},        {CODE_mov_to_es_esp, {0, KERNEL_DS}},
        {CODE_les_esp, {0x1234, KERNEL_DS}},     {CODE_verr_esp, {KERNEL_DS, 0}},
        {CODE_verw_esp, {KERNEL_DS, KERNEL_DS}}, {CODE_lar_esp, {KERNEL_DS, 0}},
        {CODE_lsl_esp, {0, SMALL_DATA}},         {CODE_arpl_esp, {KERNEL_DS, 0}},
        {CODE_popw_es, {KERNEL_DS, 0}},          {CODE_popw_gs, {TLS_B, 0}},
        {CODE_popfw_esp, {FIXED | CF | ZF, 0}},  {CODE_far_call_esp, {0, CALL_GATE}},
    };
    for (u32 i = 0; i < WORDS; i++)
        words[i] = 0xabcd1110 + i;
    for (u32 i = 0; i < ARRAY_SIZE(wanted); i++)
        if (wanted[i].id == id)
            memcpy(words, wanted[i].words, sizeof wanted[i].words);
    switch (id) {
    case CODE_lgdt_esp: memcpy(words, &operand_gdt, 6); break;
    case CODE_lidt_esp: memcpy(words + 2, &operand_idt, 6); break;
    case CODE_far_jmp_esp: words[0] = (u32)codes[id].end, words[1] = KERNEL_CS; break;
    case CODE_lgs_esp: words[1] = 0x1234, words[2] = TLS_B; break;
    case CODE_lss_esp: words[0] = (u32)scratch_stack + PAGE_SIZE, words[1] = KERNEL_DS; break;
    default: break;
    }
}

TEST(form, all) {
    for (enum code_id id = CODE_lgdt_esp; id < CODE_COUNT; id++) {
        if (!subject(codes[id].name))
            continue;
        struct regs in = inputs(&codes[id]);
        u32 *words = (u32 *)(scratch_stack + sizeof scratch_stack) - WORDS, before[WORDS];
        memset(operand_bytes, 0, sizeof operand_bytes);
        fill(words, id);
        memcpy(before, words, sizeof before);
        in.esp = (u32)words;
        write_cr2((u32)scratch_stack + 512);
        run(&codes[id], &in);
        u32 cr2 = read_cr2(), dr0;
        asm volatile("mov %%db0, %0; mov %1, %%db0" : "=&r"(dr0) : "r"(0));
        say_open();
        print_outcome(&codes[id]);
        print_changes(&codes[id], &in);
        for (u32 i = 0; i < WORDS; i++)
            if (words[i] != before[i])
                print(" stack[%u]=%x", i, words[i]);
        print(" es %x gs %x", result.es, result.gs);
        if (id == CODE_pushw_ds || id == CODE_pushw_fs)
            print(" pushed %x", *(u16 *)result.regs.esp);
        if (id == CODE_esp_to_cr2)
            print(" cr2 %x", cr2);
        if (id == CODE_esp_to_dr0)
            print(" dr0 %x", dr0);
        if (id >= CODE_sgdt_sib && id <= CODE_str_ss)
            print(" memory %x %x", ((u32 *)operand_bytes)[0], ((u32 *)operand_bytes)[1]);
        print("\n");
        clean_up();
    }
}
