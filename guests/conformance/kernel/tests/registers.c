/* Accesses to registers in memory, in every form: flags, registers, memory; across pages; faults. */
#include "../registers.h"

static const struct {
    const char *name;
    form_t *run;
} forms[] = {
#define X(name, size, statement) {#name, form_##name},
    FORMS
#undef X
};

/* Those that leave some flags undefined are asked for the others. */
static u32 defined(const char *name) {
    if (name[0] == 'b' && name[1] == 't')
        return CF;
    bool logic = memcmp(name, "and", 3) == 0 || memcmp(name, "or", 2) == 0 || memcmp(name, "xor", 3) == 0 ||
                 memcmp(name, "test", 4) == 0;
    return logic ? ARITHMETIC & ~AF : ARITHMETIC;
}

static void say_form(u32 form, u32 *at, u32 value, u32 eax, u32 edx, u32 flags) {
    struct access access = {.eax = eax, .edx = edx, .flags = FIXED | flags};
    *at = value;
    forms[form].run(&access, at);
    say("%s %x %x %x %f: %x %x %x %f", forms[form].name, value, eax, edx, flags, *at, access.eax, access.edx,
        access.flags & defined(forms[form].name));
}

static const u32 values[][3] = {
    {0x00000000, 0x00000000, 0x0000ffff}, {0x7fffffff, 0x00000001, 0x80000080}, {0x80000000, 0xffffffff, 0x12345678},
    {0x0000807f, 0x0000807f, 0xfedcba98}, {0xffffffff, 0x80008080, 0x7f7f7f7f},
};

TEST(registers, forms) {
    for (u32 i = 0; i < ARRAY_SIZE(forms); i++)
        for (u32 v = 0; v < ARRAY_SIZE(values); v++)
            say_form(i, (u32 *)(frame(0) + 64), values[v][0], values[v][1], values[v][2], v % 2 ? CF : 0);
}

TEST(registers, crossing) {
    map(WINDOW, frame(1), PTE_P | PTE_W);
    map(WINDOW + PAGE_SIZE, frame(3), PTE_P | PTE_W);
    for (u32 i = 0; i < ARRAY_SIZE(forms); i++)
        say_form(i, (u32 *)(WINDOW + PAGE_SIZE - 2), 0x80ff7f01, 0x80ff7f01, 0x1234aaaa, CF);
}

static u32 faults;
static bool supply_page(struct frame *frame_) {
    u32 address = read_cr2() & ~(PAGE_SIZE - 1);
    if (address < WINDOW || address >= WINDOW + 2 * PAGE_SIZE)
        return false;
    faults = faults << 8 | (frame_->error & PTE_P) << 1 | 1; /* whether it was for writing emulators of RMW tell otherwise */
    map(address, frame(address == WINDOW ? 0 : 1), PTE_P | PTE_W);
    return true;
}

static void from_nothing(u32 at, u32 before) {
    hooks[14] = supply_page;
    for (u32 i = 0; i < ARRAY_SIZE(forms); i++) {
        struct access access = {.eax = 0x1111, .edx = 0x2222, .flags = FIXED};
        frame_words(0)[1023] = frame_words(0)[0] = frame_words(1)[0] = 0x33333333;
        if (before)
            map(WINDOW, frame(0), before);
        else
            unmap(WINDOW);
        unmap(WINDOW + PAGE_SIZE);
        faults = 0;
        forms[i].run(&access, (void *)at);
        say("%s: faults %x, %x %x %x", forms[i].name, faults, *(u32 *)at, access.eax, access.edx);
    }
}
TEST(registers, absent) { from_nothing(WINDOW, 0); }
TEST(registers, half_absent) { from_nothing(WINDOW + PAGE_SIZE - 2, PTE_P | PTE_W); }
TEST(registers, read_only) { from_nothing(WINDOW, PTE_P); }
