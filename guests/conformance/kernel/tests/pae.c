/*
 * Paging of three levels: what `paging` looks at, with entries of 64 bits, and
 * what only these have: 2 MiB pages, reserved bits, four entries on top that
 * the processor loads with CR3.
 */
#include "../guest.h"

#define TABLE __attribute__((section(".page_tables"), aligned(4096)))

enum { USER_RW = PTE_P | PTE_W | PTE_U, A_D = PTE_A | PTE_D, REGION = 0x200000 };

/* Pointer tables: several to a page. */
static u64 pointers[8][4] TABLE = {{0}};
static u64 low_directory[512] TABLE = {0};
static u64 user_directory[512] TABLE = {0};
static u64 window_directory[512] TABLE = {0};
static u64 other_window_directory[512] TABLE = {0};
static u64 low_table[512] TABLE = {0};
static u64 user_table[512] TABLE = {0};
static u64 table[512] TABLE = {0};
static u64 other_table[512] TABLE = {0};

static volatile u64 *wide_pde(u32 address) { return &window_directory[address / REGION & 511]; }

static volatile u64 *wide_pte(u32 address) { return &table[address / PAGE_SIZE & 511]; }

static void flush(void) { write_cr3(read_cr3()); }

static void map_wide(u32 address, u64 frame, u32 flags) {
    *wide_pte(address) = frame | flags;
    invlpg(address);
}

static void build(void) {
    for (u32 i = IDENTITY_START / PAGE_SIZE; i < 512; i++)
        low_table[i] = i * PAGE_SIZE | PTE_P | PTE_W;
    low_directory[0] = (u32)low_table | PTE_P | PTE_W;
    for (u32 i = 1; i < IDENTITY_END / REGION; i++)
        low_directory[i] = i * REGION | PTE_PS | PTE_P | PTE_W;
    for (u32 i = 0; i < 512; i++)
        user_table[i] = *pte(USER_CODE + i * PAGE_SIZE);
    user_directory[0] = (u32)user_table | USER_RW;
    memset(table, 0, sizeof table);
    memset(window_directory, 0, sizeof window_directory);
    window_directory[0] = (u32)table | USER_RW;
    memset(pointers, 0, sizeof pointers);
    pointers[0][0] = (u32)low_directory | PTE_P;
    pointers[0][USER_CODE >> 30] = (u32)user_directory | PTE_P;
    pointers[0][WINDOW >> 30] = (u32)window_directory | PTE_P;
}

static void switch_on(void) {
    write_cr0(CR0_VALUE & ~CR0_PG);
    write_cr4(CR4_VALUE | CR4_PAE);
    write_cr3((u32)pointers[0]);
    write_cr0(CR0_VALUE);
}

static void switch_off(void) {
    write_cr0(CR0_VALUE & ~CR0_PG);
    write_cr4(CR4_VALUE);
    write_cr3((u32)page_directory);
    write_cr0(CR0_VALUE);
}

/* What clean_up() undoes. */
static void start(void) {
    build();
    switch_on();
}

static const char *who(u32 user) { return user ? "user" : "kernel"; }

TEST(pae, on) {
    start();
    map_wide(WINDOW, frame(0), USER_RW);
    *frame_words(0) = 0x9ae;
    u32 cr4 = read_cr4(), kernel = read_at(WINDOW, false), user = read_at(WINDOW, true);
    bool kept = read_cr3() == (u32)pointers[0];
    switch_off();
    say("cr4 %x, cr3 %s, kernel %x, user %x, then cr4 %x", cr4, kept ? "as written" : "changed", kernel, user,
        read_cr4());
}

/* Both kinds of tables in turn, each with its own page. */
TEST(pae, in_turn) {
    map(WINDOW, frame(0), USER_RW);
    *frame_words(0) = 0x2;
    *frame_words(1) = 0x3;
    build();
    *wide_pte(WINDOW) = frame(1) | USER_RW;
    for (u32 i = 0; i < 3; i++) {
        u32 two = read_at(WINDOW, i & 1);
        switch_on();
        u32 three = read_at(WINDOW, i & 1);
        switch_off();
        say("%x %x", two, three);
    }
}

static const u32 rights[] = {0, PTE_W | PTE_U, PTE_P, PTE_P | PTE_W, PTE_P | PTE_U, USER_RW};

/* User code first: on targets that do not keep it from the kernel's pages it could go on with what the kernel uses. */
static void all_accesses(const char *what, u32 flags) {
    for (u32 user = 2; user-- > 0;)
        say("%s %x: %s: read %x store %x", what, flags, who(user), read_at(WINDOW, user), write_at(WINDOW, 1, user));
}

TEST(pae, rights) {
    start();
    *frame_words(0) = 0x10;
    for (u32 i = 0; i < ARRAY_SIZE(rights); i++) {
        map_wide(WINDOW, frame(0), rights[i]);
        all_accesses("table entry", rights[i]);
    }
    map_wide(WINDOW, frame(0), USER_RW);
    for (u32 i = 0; i < ARRAY_SIZE(rights); i++) {
        *wide_pde(WINDOW) = (u32)table | rights[i];
        flush();
        all_accesses("directory entry", rights[i]);
    }
}

TEST(pae, rights_without_wp) {
    start();
    *frame_words(0) = 0x10;
    write_cr0(CR0_VALUE & ~CR0_WP);
    for (u32 i = 0; i < ARRAY_SIZE(rights); i++) {
        map_wide(WINDOW, frame(0), rights[i]);
        all_accesses("table entry", rights[i]);
    }
}

TEST(pae, accessed_dirty) {
    start();
    for (u32 user = 0; user < 2; user++) {
        *wide_pde(WINDOW) = (u32)table | USER_RW;
        map_wide(WINDOW, frame(0), USER_RW);
        flush();
        read_at(WINDOW, user);
        u32 read = *wide_pte(WINDOW), directory = *wide_pde(WINDOW);
        write_at(WINDOW, 1, user);
        say("%s: read %s, pde %s, then written %s", who(user), accessed_dirty(read),
            accessed_dirty(directory & ~(u32)PTE_D), accessed_dirty(*wide_pte(WINDOW)));
        map_wide(WINDOW, frame(0), USER_RW);
        write_at(WINDOW, 1, user);
        u32 written = *wide_pte(WINDOW);
        *wide_pte(WINDOW) &= ~(u64)A_D;
        invlpg(WINDOW);
        read_at(WINDOW, user);
        say("%s: written at once %s, cleared and read %s, upper half %x", who(user), accessed_dirty(written),
            accessed_dirty(*wide_pte(WINDOW)), (u32)(*wide_pte(WINDOW) >> 32));
    }
}

TEST(pae, no_flush_needed) {
    start();
    *frame_words(0) = 0xa0;
    *frame_words(1) = 0xa1;
    for (u32 user = 0; user < 2; user++) {
        map_wide(WINDOW, 0, 0);
        u32 absent = read_at(WINDOW, user);
        *wide_pte(WINDOW) = frame(0) | USER_RW;
        say("%s: absent %x, then present %x", who(user), absent, read_at(WINDOW, user));
        map_wide(WINDOW, frame(0), USER_RW);
        read_at(WINDOW, user);
        *wide_pte(WINDOW) &= ~(u64)PTE_W; /* D is clear */
        say("%s: made read-only while D was clear: store %x", who(user), write_at(WINDOW, 1, user));
    }
}

TEST(pae, flush) {
    start();
    *frame_words(0) = 0xb0;
    *frame_words(1) = 0xb1;
    for (u32 user = 0; user < 2; user++) {
        map_wide(WINDOW, frame(0), USER_RW);
        u32 before = read_at(WINDOW, user);
        *wide_pte(WINDOW) = frame(1) | USER_RW | PTE_A;
        invlpg(WINDOW + 0x123);
        u32 page = read_at(WINDOW, user);
        *wide_pte(WINDOW) = frame(0) | USER_RW | PTE_A;
        flush();
        u32 all = read_at(WINDOW, user);
        *wide_pte(WINDOW) = 0;
        invlpg(WINDOW);
        say("%s: %x, invlpg %x, cr3 %x, absent %x", who(user), before, page, all, read_at(WINDOW, user));
    }
}

/* The last page of a region and the first of the next have different tables. */
TEST(pae, next_region) {
    start();
    *frame_words(0) = 0xc0;
    *frame_words(1) = 0xc1;
    *wide_pte(WINDOW + REGION - PAGE_SIZE) = frame(0) | USER_RW;
    memset(other_table, 0, sizeof other_table);
    other_table[0] = frame(1) | USER_RW;
    u32 absent = read_at(WINDOW + REGION, true);
    *wide_pde(WINDOW + REGION) = (u32)other_table | USER_RW;
    say("%x %x %x", absent, read_at(WINDOW + REGION - PAGE_SIZE, true), read_at(WINDOW + REGION, true));
    *wide_pde(WINDOW + REGION) = (u32)table | USER_RW;
    *wide_pte(WINDOW) = frame(0) | USER_RW;
    flush();
    say("one table in two places: %x %x", read_at(WINDOW, true), read_at(WINDOW + REGION, true));
}

static void map_big(u64 address, u32 flags) {
    *wide_pde(BIG_WINDOW) = address | PTE_PS | flags;
    flush();
}

/* Pages of 2 MiB. */
TEST(pae, big) {
    volatile u32 *big = (u32 *)(SCRATCH_BIG + REGION);
    start();
    for (u32 user = 0; user < 2; user++) {
        big[0] = 0xb16;
        big[REGION / 4 - 1] = 0xb17;
        map_big(SCRATCH_BIG + REGION, USER_RW);
        u32 first = read_at(BIG_WINDOW, user), last = read_at(BIG_WINDOW + REGION - 4, user), read = *wide_pde(BIG_WINDOW);
        write_at(BIG_WINDOW + 0x123450, 0xb18, user);
        say("%s: first %x last %x %s, written %s, memory %x, behind %x", who(user), first, last, accessed_dirty(read),
            accessed_dirty(*wide_pde(BIG_WINDOW)), big[0x123450 / 4], read_at(BIG_WINDOW + REGION, user));
        map_big(SCRATCH_BIG, USER_RW | PTE_A);
        u32 moved = read_at(BIG_WINDOW + REGION - 4, user);
        map_big(SCRATCH_BIG + REGION, PTE_P | PTE_W);
        say("%s: moved %s, kernel's: read %x store %x", who(user), moved == 0xb17 ? "no" : "yes",
            read_at(BIG_WINDOW, user), write_at(BIG_WINDOW + 16, 0, user));
        map_big(SCRATCH_BIG + REGION, PTE_P | PTE_U);
        say("%s: read-only: read %x store %x", who(user), read_at(BIG_WINDOW, user), write_at(BIG_WINDOW, 1, user));
        *wide_pde(BIG_WINDOW) = 0;
        invlpg(BIG_WINDOW + 0x100000);
        say("%s: invlpg in its middle: %x", who(user), read_at(BIG_WINDOW, user));
    }
}

/* They do not depend on CR4.PSE. */
TEST(pae, big_without_pse) {
    start();
    *(volatile u32 *)SCRATCH_BIG = 0xb19;
    map_big(SCRATCH_BIG, USER_RW);
    write_cr4((CR4_VALUE | CR4_PAE) & ~CR4_PSE);
    u32 kernel = read_at(BIG_WINDOW, false), user = read_at(BIG_WINDOW, true);
    write_cr4(CR4_VALUE | CR4_PAE);
    say("%x %x", kernel, user);
}

/* A 2 MiB page becomes a table of small pages and back. */
TEST(pae, split) {
    volatile u32 *big = (u32 *)SCRATCH_BIG;
    start();
    big[0] = 0x5910;
    big[1024] = 0x5911;
    map_big(SCRATCH_BIG, USER_RW);
    u32 whole = read_at(BIG_WINDOW + PAGE_SIZE, true);
    for (u32 i = 0; i < 512; i++)
        other_table[i] = (SCRATCH_BIG + i * PAGE_SIZE) | USER_RW;
    other_table[1] = SCRATCH_BIG | USER_RW;
    *wide_pde(BIG_WINDOW) = (u32)other_table | USER_RW;
    flush();
    u32 parts = read_at(BIG_WINDOW + PAGE_SIZE, true);
    map_big(SCRATCH_BIG, USER_RW);
    say("whole %x, split %x, whole %x", whole, parts, read_at(BIG_WINDOW + PAGE_SIZE, true));
}

/*
 * Bits that are to be 0, by their number. QEMU leaves P out of the error code,
 * which is looked at by itself.
 */
static u32 without_present(u32 outcome) { return outcome & ~(u32)PTE_P; }

static void reserved_in_tables(u32 number, u32 user) {
    u64 bit = 1ull << number;
    map_wide(WINDOW, frame(0) | bit, USER_RW);
    u32 entry = without_present(read_at(WINDOW, user)), store = without_present(write_at(WINDOW, 1, user));
    u32 marked = *wide_pte(WINDOW);
    map_wide(WINDOW, frame(0), USER_RW);
    *wide_pde(WINDOW) = (u32)table | bit | USER_RW;
    flush();
    say("bit %u: %s: table entry: read %x store %x %s, directory entry: read %x", number, who(user), entry, store,
        accessed_dirty(marked), without_present(read_at(WINDOW, user)));
    *wide_pde(WINDOW) = (u32)table | USER_RW;
    flush();
}

TEST(pae, reserved) {
    static const u8 bits[] = {36, 39, 51, 52, 62, 63, 13, 20};
    start();
    for (u32 i = 0; i < ARRAY_SIZE(bits); i++)
        for (u32 user = 0; user < 2; user++) {
            if (bits[i] > 20) /* those below are part of a table's address */
                reserved_in_tables(bits[i], user);
            map_big(SCRATCH_BIG | 1ull << bits[i], USER_RW);
            map_wide(WINDOW, 1ull << bits[i], 0);
            say("bit %u: %s: large page: read %x, not present: read %x", bits[i], who(user),
                without_present(read_at(BIG_WINDOW, user)), read_at(WINDOW, user));
        }
}

TEST(pae, reserved_code) {
    start();
    map_wide(WINDOW, frame(0) | 1ull << 63, USER_RW);
    say("read %x store %x", read_at(WINDOW, false), write_at(WINDOW, 1, true));
}

/* Memory beyond 4 GiB, which is not there, can be mapped, and be mapped away again. */
TEST(pae, beyond) {
    start();
    *frame_words(0) = 0xd0;
    for (u32 user = 0; user < 2; user++) {
        map_wide(WINDOW, 0x123456000, USER_RW);
        read_at(WINDOW, user);
        say("%s: read %s %s", who(user), result.vector == NO_VECTOR ? "done" : "refused",
            accessed_dirty(*wide_pte(WINDOW)));
        map_wide(WINDOW, frame(0), USER_RW);
        say("%s: then %x", who(user), read_at(WINDOW, user));
    }
}

/* The entries on top count when CR3 is written. */
TEST(pae, pointers) {
    start();
    *frame_words(0) = 0xe0;
    *frame_words(1) = 0xe1;
    map_wide(WINDOW, frame(0), USER_RW);
    memset(other_table, 0, sizeof other_table);
    memset(other_window_directory, 0, sizeof other_window_directory);
    other_table[0] = frame(1) | USER_RW;
    other_window_directory[0] = (u32)other_table | USER_RW;
    volatile u64 *pointer = &pointers[0][WINDOW >> 30];
    u64 saved = *pointer;
    for (u32 user = 0; user < 2; user++) {
        u32 before = read_at(WINDOW, user);
        *pointer = (u32)other_window_directory | PTE_P;
        flush();
        u32 other = read_at(WINDOW, user);
        *pointer = 0;
        flush();
        u32 none = read_at(WINDOW, user), store = write_at(WINDOW, 1, user);
        *pointer = saved;
        flush();
        say("%s: %x, other %x, none %x %x, again %x", who(user), before, other, none, store, read_at(WINDOW, user));
        *pointer = (u32)other_window_directory | PTE_P;
        write_cr4((CR4_VALUE | CR4_PAE) & ~CR4_PGE);
        u32 changed = read_at(WINDOW, user);
        *pointer = saved;
        write_cr4(CR4_VALUE | CR4_PAE);
        say("%s: loaded with CR4.PGE: %x %x", who(user), changed, read_at(WINDOW, user));
    }
}

/* Until then those loaded before count, whatever memory holds. */
TEST(pae, pointers_held) {
    start();
    *frame_words(0) = 0xe2;
    map_wide(WINDOW, frame(0), USER_RW);
    pointers[0][WINDOW >> 30] = 0;
    invlpg(WINDOW);
    say("%x", read_at(WINDOW, false));
}

/* Reserved bits in one of them: CR3 cannot be written. */
TEST(pae, pointers_reserved) {
    static const u8 bits[] = {1, 2, 6, 8, 36, 63};
    start();
    memcpy(pointers[1], pointers[0], sizeof pointers[1]);
    for (u32 i = 0; i < ARRAY_SIZE(bits); i++) {
        pointers[1][3] = 1ull << bits[i];
        write_cr3((u32)pointers[1]);
        say("bit %u, not present: %s", bits[i], read_cr3() == (u32)pointers[1] ? "loaded" : "not loaded");
        pointers[1][3] = 1ull << bits[i] | PTE_P;
        struct regs in = inputs(&codes[CODE_mov_to_cr3]);
        write_cr3((u32)pointers[0]);
        in.esi = (u32)pointers[1];
        run(&codes[CODE_mov_to_cr3], &in);
        bool loaded = read_cr3() == (u32)pointers[1];
        write_cr3((u32)pointers[0]);
        say_open();
        print("bit %u, present: ", bits[i]);
        print_outcome(&codes[CODE_mov_to_cr3]);
        print(", %s\n", loaded ? "loaded" : "not loaded");
    }
}

/* Address spaces whose pointer tables lie in one page. */
TEST(pae, address_spaces) {
    start();
    memset(other_table, 0, sizeof other_table);
    memset(other_window_directory, 0, sizeof other_window_directory);
    *frame_words(0) = 0xf0;
    *frame_words(1) = 0xf1;
    map_wide(WINDOW, frame(0), USER_RW);
    other_table[0] = frame(1) | USER_RW;
    other_window_directory[0] = (u32)other_table | USER_RW;
    memcpy(pointers[5], pointers[0], sizeof pointers[5]);
    pointers[5][WINDOW >> 30] = (u32)other_window_directory | PTE_P;
    for (u32 i = 0; i < 3; i++)
        for (u32 user = 0; user < 2; user++) {
            u32 first = read_at(WINDOW, user);
            write_cr3((u32)pointers[5]);
            u32 second = read_at(WINDOW, user);
            write_at(WINDOW + 4, i, user);
            write_cr3((u32)pointers[0]);
            write_at(WINDOW + 4, 100 + i, user);
            say("%s: %x %x, written %x %x", who(user), first, second, frame_words(1)[1], frame_words(0)[1]);
        }
    write_cr3((u32)pointers[5]);
    other_table[0] = frame(2) | USER_RW;
    *frame_words(2) = 0xf2;
    write_cr3((u32)pointers[0]);
    u32 first = read_at(WINDOW, false);
    write_cr3((u32)pointers[5]);
    say("changed meanwhile: %x %x", first, read_at(WINDOW, false));
}

/* PWT and PCD in CR3 are no part of the address. */
TEST(pae, cr3_flags) {
    start();
    *frame_words(0) = 0xc3;
    map_wide(WINDOW, frame(0), USER_RW);
    write_cr3((u32)pointers[0] | PTE_PWT | PTE_PCD);
    say("%x, flags %x", read_at(WINDOW, true), read_cr3() & 0x1f);
}

/* Global pages survive a cr3 write while nothing about them changes. */
TEST(pae, global) {
    start();
    *frame_words(0) = 0x90;
    *frame_words(1) = 0x91;
    map_wide(WINDOW, frame(0), USER_RW | PTE_G);
    u32 before = read_at(WINDOW, true);
    flush();
    u32 after = read_at(WINDOW, true);
    *wide_pte(WINDOW) = frame(1) | USER_RW | PTE_G;
    invlpg(WINDOW);
    u32 flushed = read_at(WINDOW, true);
    *wide_pte(WINDOW) = frame(0) | USER_RW | PTE_G;
    write_cr4((CR4_VALUE | CR4_PAE) & ~CR4_PGE);
    u32 toggled = read_at(WINDOW, true);
    write_cr4(CR4_VALUE | CR4_PAE);
    say("%x, cr3 %x, invlpg %x, PGE off %x, PGE on %x", before, after, flushed, toggled, read_at(WINDOW, true));
}

/* The tables themselves, seen through their own directory. */
TEST(pae, recursive) {
    start();
    *wide_pde(BIG_WINDOW) = (u32)window_directory | PTE_P | PTE_W;
    volatile u64 *tables = (u64 *)BIG_WINDOW;
    *frame_words(4) = 0xd4;
    tables[9] = frame(4) | USER_RW;
    say("mapped through it: %x", read_at(WINDOW + 9 * PAGE_SIZE, true));
    tables[9] = 0;
    invlpg(WINDOW + 9 * PAGE_SIZE);
    say("unmapped through it: %x", read_at(WINDOW + 9 * PAGE_SIZE, true));
}

/* Random changes with their flushes, in two regions, against what the tables say. */
TEST(pae, random) {
    u32 seed = 54321, wrong = 0;
    static u8 expected[64];
    start();
    memset(other_table, 0, sizeof other_table);
    *wide_pde(WINDOW + REGION) = (u32)other_table | USER_RW;
    for (u32 i = 0; i < 64; i++)
        *frame_words(i) = 0x8000 + i, expected[i] = 0xff;
    for (u32 step = 0; step < 2000 * stress; step++) {
        seed = seed * 1664525 + 1013904223;
        u32 page = seed >> 10 & 63, target = seed >> 16 & 63, index = 480 + page; /* 32 in each */
        u32 address = WINDOW + index * PAGE_SIZE;
        volatile u64 *entry = index < 512 ? &table[index] : &other_table[index - 512];
        if ((seed >> 24 & 7) == 0) {
            *entry = 0;
            invlpg(address);
            expected[page] = 0xff;
        } else if (seed >> 24 & 1) {
            *entry = frame(target) | USER_RW;
            invlpg(address);
            expected[page] = (u8)target;
        }
        u32 seen = read_at(address, seed >> 28 & 1);
        u32 wanted = expected[page] == 0xff ? 0xfa000e00 | (seed >> 28 & 1) * 4 : 0x8000u + expected[page];
        wrong += seen != wanted;
        if ((seed >> 22 & 63) == 0)
            flush();
    }
    say("wrong %u", wrong);
}
