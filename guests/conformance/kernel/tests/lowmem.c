/* Pages below 64 KiB, where a host may refuse to map anything. */
#include "../guest.h"

static u32 low_table[1024] __attribute__((aligned(4096)));

static void access(enum code_id id, u32 address, bool user, const char *what) {
    struct regs in = inputs(&codes[id]);
    in.esi = address;
    (user ? run_user : run)(&codes[id], &in);
    say_open();
    print("%s %s %s %x: ", what, user ? "user" : "kernel", codes[id].name, address);
    print_outcome(&codes[id]);
    print_changes(&codes[id], &in);
    print("\n");
}

TEST(lowmem, absent) {
    for (u32 user = 0; user < 2; user++) {
        access(CODE_load, 0, user, "absent");
        access(CODE_store, 0xfff0, user, "absent");
    }
}

/* Maps frames to the lowest pages; returns the directory entry to put back. */
static u32 map_low(void) {
    u32 saved = *pde(0);
    memcpy(low_table, (void *)(saved & ~0xfffu), sizeof low_table);
    for (u32 page = 0; page < 16; page++) {
        low_table[page] = frame(page) | PTE_P | PTE_W | PTE_U;
        *frame_words(page) = 0x10300 + page;
    }
    *pde(0) = (u32)low_table | PTE_P | PTE_W | PTE_U;
    write_cr3(read_cr3());
    return saved;
}

static void unmap_low(u32 saved) {
    *pde(0) = saved;
    write_cr3(read_cr3());
}

TEST(lowmem, mapped) {
    u32 saved = map_low();
    for (u32 user = 0; user < 2; user++) {
        access(CODE_load, 0, user, "mapped");
        access(CODE_load, 0xf000, user, "mapped");
        access(CODE_store, 0x5000, user, "mapped");
        say("memory %x, pte %x", *frame_words(5), low_table[5] & 0x67);
        access(CODE_modify, 0x3000, user, "mapped");
        say("memory %x", *frame_words(3));
    }
    unmap_low(saved);
    access(CODE_load, 0, true, "absent again");
}

TEST(lowmem, code) {
    u32 saved = map_low();
    *frame_words(7) = 0xc3; /* ret */
    access(CODE_execute, 0x7000, false, "mapped");
    access(CODE_execute, 0x7000, true, "mapped");
    unmap_low(saved);
}
