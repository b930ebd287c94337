/* Page faults: error codes, CR2, registers, from kernel and user mode. */
#include "../guest.h"

static const enum code_id accesses[] = {CODE_load, CODE_store, CODE_modify};

static void access(enum code_id id, bool user, u32 address, const char *what) {
    const struct code *code = &codes[id];
    struct regs in = inputs(code);
    in.esi = address;
    (user ? run_user : run)(code, &in);
    if (id == CODE_modify)
        result.error &= ~2u; /* a processor may see the read or the write first */
    say_open();
    print("%s %s %s: ", what, user ? "user" : "kernel", code->name);
    print_outcome(code);
    print_changes(code, &in);
    print("\n");
}

static void all_accesses(u32 address, const char *what) {
    for (u32 user = 0; user < 2; user++)
        for (u32 i = 0; i < ARRAY_SIZE(accesses); i++)
            access(accesses[i], user, address, what);
}

static const struct {
    const char *what;
    u32 flags;
} rights[] = {
    {"absent", 0},
    {"absent but writable", PTE_W | PTE_U},
    {"kernel read-only", PTE_P},
    {"kernel", PTE_P | PTE_W},
    {"user read-only", PTE_P | PTE_U},
    {"user", PTE_P | PTE_U | PTE_W},
};

static void all_rights(void) {
    *frame_words(0) = 0x1234;
    for (u32 i = 0; i < ARRAY_SIZE(rights); i++) {
        map(WINDOW, frame(0), rights[i].flags);
        *frame_words(0) = 0x1234;
        all_accesses(WINDOW, rights[i].what);
    }
}

TEST(fault, rights) { all_rights(); }

TEST(fault, rights_without_wp) {
    write_cr0(CR0_VALUE & ~CR0_WP);
    all_rights();
}

/* The directory entry's rights count as well. */
TEST(fault, directory_rights) {
    map(WINDOW, frame(0), PTE_P | PTE_U | PTE_W);
    u32 whole = *pde(WINDOW);
    static const u32 less[] = {0, PTE_P, PTE_P | PTE_W, PTE_P | PTE_U};
    static const char *const names[] = {"table absent", "table kernel read-only", "table kernel",
                                        "table user read-only"};
    for (u32 i = 0; i < ARRAY_SIZE(less); i++) {
        *pde(WINDOW) = (whole & ~7u) | less[i];
        write_cr3((u32)page_directory);
        all_accesses(WINDOW, names[i]);
    }
    *pde(WINDOW) = whole;
}

/* An access that crosses into a page that is not there names that page. */
TEST(fault, crossing) {
    map(WINDOW, frame(0), PTE_P | PTE_U | PTE_W);
    unmap(WINDOW + PAGE_SIZE);
    all_accesses(WINDOW + PAGE_SIZE - 2, "crossing");
}

TEST(fault, execute) {
    frame_words(0)[0] = 0x000000c3; /* ret */
    static const u32 flags[] = {0, PTE_P, PTE_P | PTE_U};
    for (u32 i = 0; i < ARRAY_SIZE(flags); i++)
        for (u32 user = 0; user < 2; user++) {
            map(WINDOW, frame(0), flags[i]);
            struct regs in = inputs(&codes[CODE_execute]);
            in.esi = WINDOW;
            (user ? run_user : run)(&codes[CODE_execute], &in);
            say_open();
            print("%x %s: ", flags[i], user ? "user" : "kernel");
            print_outcome(&codes[CODE_execute]);
            if (result.vector == 14)
                print(" eip %x", result.regs.eip);
            print("\n");
        }
}

/* The handler maps the page, and the instruction is done again. */
static u32 mapped;
static bool map_window(struct frame *frame_) {
    u32 address = read_cr2() & ~(PAGE_SIZE - 1);
    (void)frame_;
    if (address < WINDOW || address >= WINDOW + 0x400000)
        return false;
    mapped++;
    map(address, frame((address - WINDOW) / PAGE_SIZE), PTE_P | PTE_U | PTE_W);
    return true;
}
TEST(fault, demand) {
    hooks[14] = map_window;
    for (u32 user = 0; user < 2; user++)
        for (u32 i = 0; i < ARRAY_SIZE(accesses); i++) {
            unmap(WINDOW);
            *frame_words(0) = 41;
            mapped = 0;
            struct regs in = inputs(&codes[accesses[i]]);
            in.esi = WINDOW;
            (user ? run_user : run)(&codes[accesses[i]], &in);
            say_open();
            print("%s %s: ", user ? "user" : "kernel", codes[accesses[i]].name);
            print_outcome(&codes[accesses[i]]);
            print_changes(&codes[accesses[i]], &in);
            print(" after %u faults, memory %x\n", mapped, *frame_words(0));
        }
}

/* A string copy faults in its middle, with its progress in the registers. */
TEST(fault, copy) {
    const struct code *code = &codes[CODE_copy];
    for (u32 user = 0; user < 2; user++) {
        map(WINDOW, frame(0), PTE_P | PTE_U | PTE_W);
        unmap(WINDOW + PAGE_SIZE);
        struct regs in = inputs(code);
        in.ecx = 16;
        in.esi = WINDOW;
        in.edi = WINDOW + PAGE_SIZE - 5;
        (user ? run_user : run)(code, &in);
        say_result(code, &in, user ? "user: " : "kernel: ");
    }
}
