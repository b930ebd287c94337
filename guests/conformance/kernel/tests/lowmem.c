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

static void crossing(bool user) {
    access(CODE_load, 0x5ffe, user, "crossing");
    access(CODE_store, 0x5ffe, user, "crossing");
    access(CODE_modify, 0x5ffd, user, "crossing");
    say("memory %x %x", frame_words(5)[1023], *frame_words(6));
    low_table[6] &= ~(u32)(PTE_W | PTE_D);
    low_table[5] &= ~(u32)PTE_D;
    write_cr3(read_cr3());
    access(CODE_load, 0x5ffe, user, "read-only behind");
    access(CODE_store, 0x5ffe, user, "read-only behind");
    access(CODE_store, 0x5ffc, user, "read-only behind");
    say("dirty %x %x", low_table[5] & PTE_D, low_table[6] & PTE_D);
    low_table[6] |= PTE_W;
    write_cr3(read_cr3());
    access(CODE_load, 0x5ffe, user, "clean behind");
    access(CODE_store, 0x5ffc, user, "clean behind");
    say("dirty %x", low_table[6] & PTE_D);
    access(CODE_store, 0x5fff, user, "clean behind");
    say("dirty %x", low_table[6] & PTE_D);
    u32 entry = low_table[6];
    low_table[6] = 0;
    write_cr3(read_cr3());
    access(CODE_load, 0x5ffd, user, "absent behind");
    access(CODE_store, 0x5ffd, user, "absent behind");
    access(CODE_modify, 0x5ff8, user, "absent behind");
    low_table[6] = entry;
    write_cr3(read_cr3());
}

TEST(lowmem, crossing) {
    u32 saved = map_low();
    low_table[16] = frame(16) | PTE_P | PTE_W | PTE_U;
    *frame_words(16) = 0x10316;
    crossing(false);
    crossing(true);
    for (u32 user = 0; user < 2; user++) {
        access(CODE_load, 0xfffe, user, "and out");
        access(CODE_store, 0xfffd, user, "and out");
        say("memory %x %x", frame_words(15)[1023], *frame_words(16));
    }
    unmap_low(saved);
}

TEST(lowmem, prefixes) {
    u32 saved = map_low();
    for (u32 user = 0; user < 2; user++) {
        access(CODE_load_word_16, 0x4000, user, "mapped");
        access(CODE_load_word_es, 0x4000, user, "mapped");
    }
    unmap_low(saved);
}

TEST(lowmem, code) {
    u32 saved = map_low();
    *frame_words(7) = 0xc3; /* ret */
    access(CODE_execute, 0x7000, false, "mapped");
    access(CODE_execute, 0x7000, true, "mapped");
    unmap_low(saved);
}
