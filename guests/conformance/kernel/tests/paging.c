/*
 * Page tables: accessed and dirty bits, what must and need not be flushed,
 * 4 MiB pages, global pages, other address spaces, aliases, tables that map
 * themselves. A stale translation may or may not be used, so none is printed.
 */
#include "../guest.h"

enum { USER_RW = PTE_P | PTE_W | PTE_U, A_D = PTE_A | PTE_D };

/* Maps without A and D, and flushes. */
static void fresh(u32 flags) {
    *pde(WINDOW) &= ~(u32)A_D;
    map(WINDOW, frame(0), flags);
    write_cr3(read_cr3());
}

TEST(paging, accessed_dirty) {
    for (u32 user = 0; user < 2; user++) {
        fresh(USER_RW);
        say("%s: mapped: pte %s pde %s", user ? "user" : "kernel", accessed_dirty(*pte(WINDOW)),
            accessed_dirty(*pde(WINDOW) & ~(u32)PTE_D));
        read_at(WINDOW, user);
        say("%s: read: pte %s pde %s", user ? "user" : "kernel", accessed_dirty(*pte(WINDOW)),
            accessed_dirty(*pde(WINDOW) & ~(u32)PTE_D));
        write_at(WINDOW, 1, user);
        say("%s: then written: pte %s", user ? "user" : "kernel", accessed_dirty(*pte(WINDOW)));
        fresh(USER_RW);
        write_at(WINDOW, 1, user);
        say("%s: written at once: pte %s pde %s", user ? "user" : "kernel", accessed_dirty(*pte(WINDOW)),
            accessed_dirty(*pde(WINDOW) & ~(u32)PTE_D));
        fresh(USER_RW | A_D);
        *pte(WINDOW) &= ~(u32)A_D;
        invlpg(WINDOW);
        read_at(WINDOW, user);
        say("%s: cleared, flushed, read: pte %s", user ? "user" : "kernel", accessed_dirty(*pte(WINDOW)));
        *pte(WINDOW) &= ~(u32)A_D;
        write_cr3(read_cr3());
        write_at(WINDOW, 1, user);
        say("%s: cleared, cr3 written, written: pte %s", user ? "user" : "kernel", accessed_dirty(*pte(WINDOW)));
    }
}

/* The bits are kept by hand too: the processor never clears one. */
TEST(paging, bits_kept) {
    fresh(USER_RW | PTE_D);
    read_at(WINDOW, false);
    say("D without A, read: pte %s", accessed_dirty(*pte(WINDOW)));
    fresh(USER_RW | 0xe00);
    write_at(WINDOW, 1, false);
    say("available bits %x", *pte(WINDOW) & 0xe00);
}

/* A kernel store without WP to a page that may only be read makes it dirty. */
TEST(paging, dirty_without_wp) {
    write_cr0(CR0_VALUE & ~CR0_WP);
    fresh(PTE_P | PTE_U);
    write_at(WINDOW, 1, false);
    say("pte %s", accessed_dirty(*pte(WINDOW)));
}

/* What could be written only without WP cannot be any more when it is set. */
TEST(paging, wp_set_again) {
    fresh(PTE_P | PTE_U | PTE_G);
    for (u32 i = 0; i < 2; i++) {
        write_cr0(CR0_VALUE & ~CR0_WP);
        u32 without = write_at(WINDOW, 1, false);
        write_cr0(CR0_VALUE);
        say("without WP %x, with WP %x", without, write_at(WINDOW, 1, false));
    }
}

/* Touching one page leaves its neighbours alone. */
TEST(paging, neighbours) {
    for (u32 i = 0; i < 32; i++)
        map(WINDOW + i * PAGE_SIZE, frame(i), USER_RW);
    read_at(WINDOW + 10 * PAGE_SIZE, false);
    write_at(WINDOW + 20 * PAGE_SIZE, 1, true);
    say_open();
    for (u32 i = 0; i < 32; i++)
        if (*pte(WINDOW + i * PAGE_SIZE) & A_D)
            print("page %u %s ", i, accessed_dirty(*pte(WINDOW + i * PAGE_SIZE)));
    print("\n");
}

/* Instruction fetches, stacks and the processor's own accesses set A (and D) as well. */
TEST(paging, implicit) {
    frame_words(1)[0] = 0xc3; /* ret */
    map(WINDOW + PAGE_SIZE, frame(1), USER_RW);
    struct regs in = inputs(&codes[CODE_execute]);
    in.esi = WINDOW + PAGE_SIZE;
    run(&codes[CODE_execute], &in);
    say("fetched: pte %s", accessed_dirty(*pte(WINDOW + PAGE_SIZE)));
    map(WINDOW, frame(0), USER_RW);
    in = inputs(&codes[CODE_push_eax]);
    in.esp = WINDOW + PAGE_SIZE;
    run_user(&codes[CODE_push_eax], &in);
    say("pushed: pte %s", accessed_dirty(*pte(WINDOW)));
    map(WINDOW, frame(0), PTE_P | PTE_W);
    tss.esp0 = WINDOW + PAGE_SIZE;
    in = inputs(&codes[CODE_nothing]);
    run_user(&codes[CODE_nothing], &in);
    tss.esp0 = (u32)entry_stack + sizeof entry_stack;
    say("entered from user mode: pte %s", accessed_dirty(*pte(WINDOW)));
}

/* What was not present, or not accessed, is in no cache: no flush is needed. */
TEST(paging, no_flush_needed) {
    *frame_words(0) = 0xa0;
    *frame_words(1) = 0xa1;
    for (u32 user = 0; user < 2; user++) {
        const char *who = user ? "user" : "kernel";
        unmap(WINDOW);
        u32 absent = read_at(WINDOW, user);
        *pte(WINDOW) = frame(0) | USER_RW;
        say("%s: absent %x, then present %x", who, absent, read_at(WINDOW, user));
        unmap(WINDOW);
        *pte(WINDOW) = frame(0) | USER_RW;
        *pte(WINDOW) = frame(1) | USER_RW; /* A is clear: the first was never used */
        say("%s: changed while A was clear: %x", who, read_at(WINDOW, user));
        map(WINDOW, frame(0), USER_RW);
        read_at(WINDOW, user);
        *pte(WINDOW) &= ~(u32)PTE_W; /* D is clear: no store went through it */
        say("%s: made read-only while D was clear: store %x", who, write_at(WINDOW, 1, user));
        map(WINDOW, frame(0), USER_RW);
        *pte(WINDOW) = 0;
        say("%s: made absent while A was clear: %x", who, read_at(WINDOW, user));
    }
}

/* Reductions that must be announced, and are. */
TEST(paging, flush) {
    *frame_words(0) = 0xb0;
    *frame_words(1) = 0xb1;
    for (u32 user = 0; user < 2; user++) {
        const char *who = user ? "user" : "kernel";
        map(WINDOW, frame(0), USER_RW);
        *frame_words(0) = 0xb0;
        u32 before = read_at(WINDOW, user);
        *pte(WINDOW) = frame(1) | USER_RW | PTE_A;
        invlpg(WINDOW);
        say("%s: invlpg: %x then %x", who, before, read_at(WINDOW, user));
        *pte(WINDOW) = frame(0) | USER_RW | PTE_A;
        invlpg(WINDOW + 0x123);
        say("%s: invlpg inside the page: %x", who, read_at(WINDOW, user));
        *pte(WINDOW) = frame(1) | USER_RW | PTE_A;
        write_cr3(read_cr3());
        say("%s: cr3: %x", who, read_at(WINDOW, user));
        write_at(WINDOW, 0xb1, user);
        *pte(WINDOW) &= ~(u32)PTE_W;
        invlpg(WINDOW);
        say("%s: write-protected: store %x, read %x", who, write_at(WINDOW, 1, user), read_at(WINDOW, user));
        *pte(WINDOW) = frame(1) | PTE_P | PTE_W;
        invlpg(WINDOW);
        say("%s: for the kernel only: %x", who, read_at(WINDOW, user));
        *pte(WINDOW) = 0;
        invlpg(WINDOW);
        say("%s: absent: %x", who, read_at(WINDOW, user));
    }
}

/* Two addresses of one frame. */
TEST(paging, alias) {
    map(WINDOW, frame(0), USER_RW);
    map(WINDOW + 5 * PAGE_SIZE, frame(0), PTE_P | PTE_U);
    write_at(WINDOW + 16, 0xa11a5, true);
    say("read through the other: %x, through the identity mapping: %x", read_at(WINDOW + 5 * PAGE_SIZE + 16, true),
        frame_words(0)[4]);
    frame_words(0)[4] = 0xa11a6;
    say("and back: %x", read_at(WINDOW + 5 * PAGE_SIZE + 16, false));
    say("ptes %s %s", accessed_dirty(*pte(WINDOW)), accessed_dirty(*pte(WINDOW + 5 * PAGE_SIZE)));
}

/* The page table is changed through a mapping of itself. */
TEST(paging, table_through_alias) {
    u32 table = (u32)window_table;
    *frame_words(2) = 0xc2;
    *frame_words(3) = 0xc3;
    map(WINDOW + 100 * PAGE_SIZE, table, PTE_P | PTE_W);
    volatile u32 *entries = (u32 *)(WINDOW + 100 * PAGE_SIZE);
    entries[7] = frame(2) | USER_RW;
    say("made present: %x", read_at(WINDOW + 7 * PAGE_SIZE, false));
    entries[7] = frame(3) | USER_RW;
    invlpg(WINDOW + 7 * PAGE_SIZE);
    say("changed: %x", read_at(WINDOW + 7 * PAGE_SIZE, true));
    say("bits seen through the alias: %s", accessed_dirty(entries[7]));
    entries[7] = 0;
    invlpg(WINDOW + 7 * PAGE_SIZE);
    say("made absent: %x", read_at(WINDOW + 7 * PAGE_SIZE, true));
}

/* The directory as a page table of its own. */
TEST(paging, recursive) {
    *pde(BIG_WINDOW) = (u32)page_directory | PTE_P | PTE_W;
    volatile u32 *tables = (u32 *)BIG_WINDOW;
    say("directory entry of the window: %x", tables[(BIG_WINDOW >> 22) * 1024 + (WINDOW >> 22)] & ~0xf60u);
    *frame_words(4) = 0xd4;
    tables[(WINDOW >> 22) * 1024 + 9] = frame(4) | USER_RW;
    say("mapped through it: %x", read_at(WINDOW + 9 * PAGE_SIZE, true));
    tables[(WINDOW >> 22) * 1024 + 9] = 0;
    invlpg(WINDOW + 9 * PAGE_SIZE);
    say("unmapped through it: %x", read_at(WINDOW + 9 * PAGE_SIZE, true));
    *pde(BIG_WINDOW) = 0;
    write_cr3(read_cr3());
}

/* Another table in the directory. */
TEST(paging, other_table) {
    *frame_words(0) = 0xe0;
    *frame_words(1) = 0xe1;
    memset(second_table, 0, sizeof second_table);
    second_table[0] = frame(1) | USER_RW;
    map(WINDOW, frame(0), USER_RW);
    u32 before = read_at(WINDOW, true);
    u32 saved = *pde(WINDOW);
    *pde(WINDOW) = (u32)second_table | USER_RW;
    write_cr3(read_cr3());
    u32 after = read_at(WINDOW, true);
    *pde(WINDOW) = 0;
    write_cr3(read_cr3());
    u32 none = read_at(WINDOW, true);
    *pde(WINDOW) = saved;
    write_cr3(read_cr3());
    say("%x, %x, %x, %x", before, after, none, read_at(WINDOW, true));
}

/* Another address space. */
TEST(paging, address_spaces) {
    *frame_words(0) = 0xf0;
    *frame_words(1) = 0xf1;
    memset(second_table, 0, sizeof second_table);
    second_table[0] = frame(1) | USER_RW;
    map(WINDOW, frame(0), USER_RW);
    memcpy(other_directory, page_directory, sizeof page_directory);
    other_directory[WINDOW >> 22] = (u32)second_table | USER_RW;
    for (u32 i = 0; i < 3; i++)
        for (u32 user = 0; user < 2; user++) {
            u32 first = read_at(WINDOW, user);
            write_cr3((u32)other_directory);
            u32 second = read_at(WINDOW, user);
            write_at(WINDOW + 4, i, user);
            write_cr3((u32)page_directory);
            write_at(WINDOW + 4, 100 + i, user);
            say("%s: %x %x, written %x %x", user ? "user" : "kernel", first, second, frame_words(1)[1],
                frame_words(0)[1]);
        }
    write_cr3((u32)other_directory);
    second_table[0] = frame(2) | USER_RW;
    *frame_words(2) = 0xf2;
    write_cr3((u32)page_directory);
    u32 first = read_at(WINDOW, false);
    write_cr3((u32)other_directory);
    say("changed meanwhile: %x %x", first, read_at(WINDOW, false));
    write_cr3((u32)page_directory);
}

/* A table of the space that is not current is changed; the switch makes it count. */
TEST(paging, changed_from_outside) {
    memset(second_table, 0, sizeof second_table);
    memcpy(other_directory, page_directory, sizeof page_directory);
    other_directory[WINDOW >> 22] = (u32)second_table | USER_RW;
    for (u32 i = 0; i < 4; i++) {
        *frame_words(i) = 0x700 + i;
        second_table[0] = frame(i) | USER_RW | PTE_A | PTE_D;
        write_cr3((u32)other_directory);
        u32 seen = read_at(WINDOW, i & 1);
        write_cr3((u32)page_directory);
        say("%x", seen);
    }
}

/* Global pages survive a cr3 write while nothing about them changes; invlpg and CR4.PGE flush them. */
TEST(paging, global) {
    *frame_words(0) = 0x90;
    *frame_words(1) = 0x91;
    map(WINDOW, frame(0), USER_RW | PTE_G);
    u32 before = read_at(WINDOW, true);
    write_cr3(read_cr3());
    u32 after = read_at(WINDOW, true);
    *pte(WINDOW) = frame(1) | USER_RW | PTE_G;
    invlpg(WINDOW);
    u32 flushed = read_at(WINDOW, true);
    *pte(WINDOW) = frame(0) | USER_RW | PTE_G;
    write_cr4(CR4_VALUE & ~CR4_PGE);
    u32 toggled = read_at(WINDOW, true);
    write_cr4(CR4_VALUE);
    u32 again = read_at(WINDOW, true);
    say("%x, cr3 %x, invlpg %x, PGE off %x, PGE on %x", before, after, flushed, toggled, again);
    write_cr4(CR4_VALUE & ~CR4_PGE);
    *pte(WINDOW) = frame(1) | USER_RW | PTE_G; /* without PGE the bit means nothing */
    write_cr3(read_cr3());
    say("without PGE a cr3 write flushes: %x", read_at(WINDOW, true));
    write_cr4(CR4_VALUE);
    *pte(WINDOW) = 0;
    write_cr4(CR4_VALUE & ~CR4_PGE);
    write_cr4(CR4_VALUE);
    say("absent after a change of PGE: %x", read_at(WINDOW, true));
}

static void map_big(u32 flags) {
    *pde(BIG_WINDOW) = SCRATCH_BIG | PTE_PS | flags;
    write_cr3(read_cr3());
}

/* Pages of 4 MiB. */
TEST(paging, big) {
    volatile u32 *big = (u32 *)SCRATCH_BIG;
    big[0] = 0xb16;
    big[0x3ffffc / 4] = 0xb17;
    for (u32 user = 0; user < 2; user++) {
        const char *who = user ? "user" : "kernel";
        map_big(USER_RW);
        say("%s: mapped %s", who, accessed_dirty(*pde(BIG_WINDOW)));
        say("%s: first %x last %x", who, read_at(BIG_WINDOW, user), read_at(BIG_WINDOW + 0x3ffffc, user));
        say("%s: read %s", who, accessed_dirty(*pde(BIG_WINDOW)));
        write_at(BIG_WINDOW + 0x123450, 0xb18, user);
        say("%s: written %s, memory %x", who, accessed_dirty(*pde(BIG_WINDOW)), big[0x123450 / 4]);
        map_big(PTE_P | PTE_W);
        say("%s: kernel's: read %x store %x", who, read_at(BIG_WINDOW + 0x10000, user) & 0xff00ffff,
            write_at(BIG_WINDOW + 0x10000, 0, user));
        map_big(PTE_P | PTE_U);
        say("%s: read-only: read %x store %x", who, read_at(BIG_WINDOW, user), write_at(BIG_WINDOW, 1, user));
        *pde(BIG_WINDOW) = 0;
        invlpg(BIG_WINDOW + 0x200000);
        say("%s: invlpg in its middle: %x", who, read_at(BIG_WINDOW, user));
    }
}

/* Bit 21 of an entry for 4 MiB is to be 0. P in the error code: see pae.reserved_code. */
TEST(paging, big_reserved) {
    for (u32 user = 0; user < 2; user++) {
        map_big(USER_RW | 1u << 21);
        say("%s: read %x store %x", user ? "user" : "kernel", read_at(BIG_WINDOW, user) & ~1u,
            write_at(BIG_WINDOW, 0, user) & ~1u);
    }
}

/* A 4 MiB page becomes a table of small pages and back. */
TEST(paging, split) {
    volatile u32 *big = (u32 *)SCRATCH_BIG;
    big[0] = 0x5910;
    big[1024] = 0x5911;
    map_big(USER_RW);
    u32 whole = read_at(BIG_WINDOW + PAGE_SIZE, true);
    for (u32 i = 0; i < 1024; i++)
        second_table[i] = (SCRATCH_BIG + i * PAGE_SIZE) | USER_RW;
    second_table[1] = SCRATCH_BIG | USER_RW;
    *pde(BIG_WINDOW) = (u32)second_table | USER_RW;
    write_cr3(read_cr3());
    u32 parts = read_at(BIG_WINDOW + PAGE_SIZE, true);
    map_big(USER_RW);
    say("whole %x, split %x, whole %x", whole, parts, read_at(BIG_WINDOW + PAGE_SIZE, true));
    *pde(BIG_WINDOW) = 0;
    write_cr3(read_cr3());
}

/* Many pages, each its own, at once; read back in another order. */
TEST(paging, many) {
    for (u32 i = 0; i < 1024; i++) {
        map(WINDOW + i * PAGE_SIZE, frame((i * 337) & 1023), USER_RW);
        *(volatile u32 *)(WINDOW + i * PAGE_SIZE) = i;
    }
    u32 wrong = 0, unmarked = 0;
    for (u32 round = 0; round < 2 * stress; round++) {
        for (u32 i = 0; i < 1024; i++) {
            u32 page = (i * 611) & 1023;
            wrong += *(volatile u32 *)(WINDOW + page * PAGE_SIZE) != page;
            wrong += *frame_words((page * 337) & 1023) != page;
        }
        write_cr3(read_cr3());
    }
    for (u32 i = 0; i < 1024; i++)
        unmarked += (*pte(WINDOW + i * PAGE_SIZE) & A_D) != A_D;
    say("wrong %u, without A and D %u", wrong, unmarked);
}

/* Random changes with their flushes, against what the tables say. */
TEST(paging, random) {
    u32 seed = 12345, wrong = 0;
    static u8 expected[64];
    for (u32 i = 0; i < 64; i++)
        *frame_words(i) = 0x8000 + i, expected[i] = 0xff, unmap(WINDOW + i * PAGE_SIZE);
    for (u32 step = 0; step < 2000 * stress; step++) {
        seed = seed * 1664525 + 1013904223;
        u32 page = seed >> 10 & 63, target = seed >> 16 & 63;
        u32 address = WINDOW + page * PAGE_SIZE;
        if ((seed >> 24 & 7) == 0) {
            unmap(address);
            expected[page] = 0xff;
        } else if (seed >> 24 & 1) {
            map(address, frame(target), USER_RW);
            expected[page] = (u8)target;
        }
        u32 seen = read_at(address, seed >> 28 & 1);
        u32 wanted = expected[page] == 0xff ? 0xfa000e00 | (seed >> 28 & 1) * 4 : 0x8000u + expected[page];
        wrong += seen != wanted;
        if ((seed >> 22 & 63) == 0)
            write_cr3(read_cr3());
    }
    say("wrong %u", wrong);
}

/* Turning paging off and on again, in the identity mapping. */
TEST(paging, off) {
    map(WINDOW, frame(0), USER_RW);
    *frame_words(0) = 0x0ff;
    u32 before = read_at(WINDOW, false);
    write_cr0(CR0_VALUE & ~CR0_PG);
    *pte(WINDOW) = frame(1) | USER_RW;
    *frame_words(1) = 0x0fe;
    u32 without = read_cr0();
    write_cr0(CR0_VALUE);
    say("%x, off %x, on %x", before, without, read_at(WINDOW, false));
}
