/*
 * The conformance guest: what its parts offer to each other and to the tests.
 *
 * A test runs one instruction or a short sequence with chosen registers in
 * kernel or user mode (run, run_user) and prints what came of it. Exceptions
 * and interrupts go to hooks, else to the run in progress, else they are
 * printed as unexpected and the next test begins.
 */
#ifndef CONFORMANCE_GUEST_H
#define CONFORMANCE_GUEST_H

#include "layout.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PAGE_SIZE 4096u

void *memset(void *to, int byte, u32 size);
void *memcpy(void *to, const void *from, u32 size);
int memcmp(const void *a, const void *b, u32 size);

/* --- EFLAGS --- */

enum {
    CF = 1u << 0,
    FIXED = 1u << 1,
    PF = 1u << 2,
    AF = 1u << 4,
    ZF = 1u << 6,
    SF = 1u << 7,
    TF = 1u << 8,
    IF = 1u << 9,
    DF = 1u << 10,
    OF = 1u << 11,
    IOPL = 3u << 12,
    NT = 1u << 14,
    RF = 1u << 16,
    AC = 1u << 18,
    ID = 1u << 21,
    ARITHMETIC = CF | PF | AF | ZF | SF | OF,
};

/* --- Console (console.c): the UART at 3f8, polled --- */

/* %x %X(8 digits) %u %d %s %c and %f, which names EFLAGS. */
void print(const char *format, ...);
/* Begins a line of the test in progress: `group.test: `. */
void say_open(void);
/* One whole such line. */
void say(const char *format, ...);
/* One line that comparing ignores: `# ...`. */
void note(const char *format, ...);

/* --- Tests (main.c) --- */

struct test {
    const char *group;
    const char *name;
    void (*run)(void);
};

/* Defines a test; tests run in the order of build.ts's list and of their file. */
#define TEST(group, name)                                                                          \
    static void test_##group##_##name(void);                                                       \
    static const struct test entry_##group##_##name                                                \
        __attribute__((section(".tests"), used, aligned(4))) = {#group, #name,                     \
                                                                test_##group##_##name};            \
    static void test_##group##_##name(void)

/*
 * For tests that go through a table: gives the lines that follow a name of
 * their own. False if the command line leaves it out. Such a test is named `all`.
 */
bool subject(const char *name);
/* Brings the machine back to what every test may expect (clean.c). */
void clean_up(void);
void devices_init(void);
/* How often to repeat what is a matter of chance: 1, or the command line's stress=N. */
extern u32 stress;

/* --- Running code under control (run.S, traps.c) --- */

struct regs {
    u32 eax, ecx, edx, ebx, esp, ebp, esi, edi, eip, eflags;
};

/* A piece of code, in the kernel and again in the user program. */
struct code {
    const char *name;
    const u8 *start, *end;           /* in the kernel; what follows ends the run */
    const u8 *user_start, *user_end; /* at USER_CODE */
    struct regs in;                  /* registers it wants; esp 0: the scratch stack */
    u32 hide;                        /* registers whose result is not to be printed, HIDE_* */
    u32 traits;
};

enum { HIDE_EAX = 1, HIDE_ECX = 2, HIDE_EDX = 4, HIDE_EBX = 8 };
enum { TRAIT_ONCE = 1 /* changes the machine: only the tests that know it run it */ };

enum { NO_VECTOR = -1 };

/* What a run ended with. */
struct result {
    struct regs regs;
    s32 vector; /* NO_VECTOR: it reached its end */
    u32 error;
    u32 cr2;
    u16 cs, ss, ds, es, fs, gs;
};

extern struct result result;

/* Runs code in the kernel or in user mode and leaves in `result` what came of it. */
void run(const struct code *code, const struct regs *in);
void run_user(const struct code *code, const struct regs *in);
/* The code's own registers; fill in the rest and change what the test is about. */
struct regs inputs(const struct code *code);
/* The same with stack and operands made so that it succeeds in the kernel (prepare.c). */
struct regs prepare(const struct code *code);
/* The same for user mode, with operands in user memory. */
struct regs prepare_user(const struct code *code);
/* Puts words on the stack that `regs` will run with, the last one deepest. */
void push_words(struct regs *regs, u32 count, const u32 *words);
#define PUSH(regs, ...)                                                                            \
    push_words(regs, sizeof((u32[]){__VA_ARGS__}) / 4, (const u32[]){__VA_ARGS__})

/* `start`, `end` or `elsewhere`: where the run's EIP was, whatever its slot's width. */
const char *place(const struct code *code, u32 eip);
/* Number of the marked instruction at `eip`, or -1. */
s32 mark_index(const struct code *code, u32 eip);
/* Address of a marked instruction in the kernel. */
u32 mark_address(const struct code *code, u32 index);
/* Prints the number of the instruction at `eip`, or its place(). */
void print_place(const struct code *code, u32 eip);
/* Prints the result: `ok`, or `#GP(18), eip at start`. */
void print_outcome(const struct code *code);
/* Prints every register that is not as it was. */
void print_changes(const struct code *code, const struct regs *in);
/* One line of both, after a prefix. */
void say_result(const struct code *code, const struct regs *in, const char *prefix);

/* The frame the trap entry leaves on the stack (traps.S). */
struct frame {
    u32 gs, fs, es, ds;
    u32 edi, esi, ebp, unused, ebx, edx, ecx, eax;
    u32 vector, error;
    u32 eip, cs, eflags;
    u32 esp, ss; /* from user mode only */
};

static inline bool from_user(const struct frame *frame) { return (frame->cs & 3) == 3; }

/* Called for its vector before anything else; false passes the trap on. */
typedef bool (*hook_t)(struct frame *frame);
extern hook_t hooks[256];

/* Leaves the run in progress with a frame as its result (for hooks). */
void end_run(struct frame *frame, s32 vector) __attribute__((noreturn));
/* No run is in progress any more: a test was given up. */
void abandon_run(void);
/* FS and GS of the user runs that follow. */
void set_user_segments(u32 fs, u32 gs);
void jump_to_runner(void) __attribute__((noreturn));

/* Every sensitive instruction as a `struct code`. */
#define CODE(name, ...) CODE_##name,
enum code_id {
#include "sites.h"
    CODE_COUNT,
    CODE_SEQUENCES = CODE_sti_nops, /* from here on more than one instruction, or not sensitive */
};
#undef CODE
extern const struct code codes[CODE_COUNT];

/* --- Single accesses (access.c) --- */

/* The word read, or what came of it: fa00VVEE, vector and error code. */
u32 read_at(u32 address, bool user);
/* 0, or what came of it. */
u32 write_at(u32 address, u32 value, bool user);
/* Those bits of an entry as text. */
const char *accessed_dirty(u32 entry);

/* --- Descriptors and tables (tables.c) --- */

struct table_register {
    u16 limit;
    u32 base;
} __attribute__((packed));

struct tss {
    u32 link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
    u32 eax, ecx, edx, ebx, esp, ebp, esi, edi;
    u32 es, cs, ss, ds, fs, gs, ldt;
    u16 trap, bitmap_offset;
    u8 bitmap[8193]; /* one bit a port, and the byte of ones after the last */
} __attribute__((packed));

extern u32 gdt[GDT_ENTRIES][2];
extern u32 ldt[4][2];
extern u32 idt[256][2];
extern struct tss tss;

void set_descriptor(u32 words[2], u32 base, u32 limit, u32 attributes);
void set_gate(u32 vector, u32 offset, u32 selector, u32 attributes);
void tables_init(void);
/* The words of the stack that kernel entries from user mode use, top excluded. */
extern u32 entry_stack[2048];

/* Memory operands of the codes. */
extern struct table_register operand_gdt, operand_idt;
extern u16 operand_selector;
extern u32 operand_far[2];
extern u8 operand_bytes[64];
extern u8 scratch_stack[2 * PAGE_SIZE];

/* --- Page tables (paging.c) --- */

enum {
    PTE_P = 1,
    PTE_W = 2,
    PTE_U = 4,
    PTE_PWT = 8,
    PTE_PCD = 16,
    PTE_A = 32,
    PTE_D = 64,
    PTE_PS = 128, /* in a directory entry */
    PTE_G = 256,
};

extern u32 page_directory[1024], other_directory[1024];
extern u32 window_table[1024], second_table[1024];

void paging_init(void);
/* The entry that maps a page of the window. */
u32 *pte(u32 address);
u32 *pde(u32 address);
/* Writes the window's entry and flushes it. */
void map(u32 address, u32 frame, u32 flags);
void unmap(u32 address);
static inline u32 frame(u32 number) { return SCRATCH_FRAMES + number * PAGE_SIZE; }
/* A scratch frame through the identity mapping. */
static inline volatile u32 *frame_words(u32 number) { return (volatile u32 *)frame(number); }

/* --- Single instructions --- */

static inline void outb(u16 port, u8 value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static inline u8 inb(u16 port) {
    u8 value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline void outl(u16 port, u32 value) { asm volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
static inline u32 inl(u16 port) {
    u32 value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline void cli(void) { asm volatile("cli" : : : "memory"); }
static inline void sti(void) { asm volatile("sti" : : : "memory"); }
static inline u32 flags(void) {
    u32 value;
    asm volatile("pushf; pop %0" : "=r"(value));
    return value;
}
static inline void invlpg(u32 address) { asm volatile("invlpg (%0)" : : "r"(address) : "memory"); }
#define CONTROL_REGISTER(n)                                                                        \
    static inline u32 read_cr##n(void) {                                                           \
        u32 value;                                                                                 \
        asm volatile("mov %%cr" #n ", %0" : "=r"(value) : : "memory");                             \
        return value;                                                                              \
    }                                                                                              \
    static inline void write_cr##n(u32 value) {                                                    \
        asm volatile("mov %0, %%cr" #n : : "r"(value) : "memory");                                 \
    }
CONTROL_REGISTER(0)
CONTROL_REGISTER(2)
CONTROL_REGISTER(3)
CONTROL_REGISTER(4)
static inline u64 rdtsc(void) {
    u64 value;
    asm volatile("rdtsc" : "=A"(value));
    return value;
}
static inline void cpuid(u32 leaf, u32 out[4]) {
    asm volatile("cpuid" : "=a"(out[0]), "=b"(out[1]), "=c"(out[2]), "=d"(out[3]) : "a"(leaf), "c"(0));
}

#define CR0_PE (1u << 0)
#define CR0_MP (1u << 1)
#define CR0_EM (1u << 2)
#define CR0_TS (1u << 3)
#define CR0_ET (1u << 4)
#define CR0_NE (1u << 5)
#define CR0_WP (1u << 16)
#define CR0_AM (1u << 18)
#define CR0_PG (1u << 31)
#define CR0_VALUE (CR0_PG | CR0_WP | CR0_NE | CR0_ET | CR0_PE)
#define CR4_PSE (1u << 4)
#define CR4_PAE (1u << 5)
#define CR4_PGE (1u << 7)
#define CR4_VALUE (CR4_PSE | CR4_PGE)

#endif
