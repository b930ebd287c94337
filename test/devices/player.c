/*
 * A guest that plays a script of port accesses and records when each took
 * place. It runs on QEMU with instruction counting, where the time-stamp
 * counter is QEMU's virtual clock in nanoseconds, so the same script can be
 * played to our devices at exactly the same times.
 *
 * Multiboot loads it with the script as its only module; the record leaves
 * through QEMU's debug console, then the debug-exit device ends the run.
 */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

/* Also in player.ts. */
enum { END, OUT, IN, ACKNOWLEDGE, WAIT };

struct step {
    u8 verb, size;
    u16 port;
    u32 value; /* OUT: what; WAIT: nanoseconds */
};

struct outcome {
    u64 time; /* of the access */
    u32 value; /* IN: what; ACKNOWLEDGE: the vector or all ones */
    u32 reserved;
};

enum { DEBUG_CONSOLE = 0xe9, DEBUG_EXIT = 0x501 };

#define NO_VECTOR 0xffffffffu

__asm__(".section .multiboot, \"a\"\n"
        ".align 4\n"
        ".long 0x1badb002, 0, -0x1badb002\n"
        ".text\n"
        ".globl _start\n"
        "_start: movl $stack_top, %esp\n"
        "push %ebx\n"
        "call play\n"
        ".bss\n"
        ".align 16\n"
        ".skip 16384\n"
        "stack_top:\n"
        ".text\n"
        /* Each handler records its vector and returns with interrupts off, so that only one is taken at a time. */
        ".align 16\n"
        "handlers:\n"
        ".set n, 0\n"
        ".rept 256\n"
        ".align 16\n"
        "movb $n, vector\n"
        "jmp taken\n"
        ".set n, n + 1\n"
        ".endr\n"
        "taken: movl $0, none_taken\n"
        "andl $~0x200, 8(%esp)\n"
        "iret\n"
        ".data\n"
        ".globl vector\n"
        "vector: .byte 0\n"
        ".align 4\n"
        "none_taken: .long 0\n");

extern u8 handlers[], vector;
extern volatile u32 none_taken;

static u64 gdt[] = {0, 0x00cf9b000000ffffull, 0x00cf93000000ffffull};
static u64 idt[256];

struct __attribute__((packed)) table {
    u16 limit;
    void *base;
};

static void set_up_tables(void) {
    struct table gdtr = {sizeof(gdt) - 1, gdt}, idtr = {sizeof(idt) - 1, idt};
    for (u32 i = 0; i < 256; i++) {
        u32 at = (u32)handlers + 16 * i;
        idt[i] = (u64)((at & 0xffff0000) | 0x8e00) << 32 | 8 << 16 | (at & 0xffff);
    }
    __asm__ volatile("lgdt %0; lidt %1; ljmp $8, $1f; 1: mov %2, %%ds; mov %2, %%es; mov %2, %%ss"
                     :
                     : "m"(gdtr), "m"(idtr), "r"(16));
}

static u64 now(void) {
    u64 time;
    __asm__ volatile("rdtsc" : "=A"(time));
    return time;
}

/* The access directly follows the reading of the clock. */
static u64 out(const struct step *step) {
    u64 time;
    if (step->size == 1)
        __asm__ volatile("rdtsc; push %%eax; push %%edx; mov %2, %%eax; mov %1, %%edx; outb %%al, %%dx; pop %%edx; pop %%eax"
                         : "=&A"(time) : "D"((u32)step->port), "S"(step->value));
    else
        __asm__ volatile("rdtsc; push %%eax; push %%edx; mov %2, %%eax; mov %1, %%edx; outl %%eax, %%dx; pop %%edx; pop %%eax"
                         : "=&A"(time) : "D"((u32)step->port), "S"(step->value));
    return time;
}

static u64 in(const struct step *step, u32 *value) {
    u64 time;
    *value = 0;
    if (step->size == 1)
        __asm__ volatile("rdtsc; push %%eax; push %%edx; xor %%eax, %%eax; mov %2, %%edx; inb %%dx, %%al; mov %%eax, %1; pop %%edx; pop %%eax"
                         : "=&A"(time), "=&S"(*value) : "D"((u32)step->port));
    else
        __asm__ volatile("rdtsc; push %%eax; push %%edx; nop; mov %2, %%edx; inl %%dx, %%eax; mov %%eax, %1; pop %%edx; pop %%eax"
                         : "=&A"(time), "=&S"(*value) : "D"((u32)step->port));
    return time;
}

static u32 acknowledge(void) {
    none_taken = 1;
    __asm__ volatile("sti; nop; nop; cli" : : : "memory");
    return none_taken ? NO_VECTOR : vector;
}

/* In a plain loop, as looking at the clock is slow; the last stretch looks. */
static void wait(u32 time) {
    u64 end = now() + time;
    for (u64 left; (left = end - now()) > 4096 && now() < end;)
        for (u32 n = (u32)(left >> 8); n; n--)
            __asm__ volatile("");
    while (now() < end)
        ;
}

void play(const u32 *multiboot) {
    const u32 *module = (const u32 *)multiboot[6];
    const struct step *step = (const struct step *)module[0];
    struct outcome *first = (struct outcome *)((module[1] + 0xfff) & ~0xfffu), *outcome = first;
    set_up_tables();
    for (; step->verb != END; step++, outcome++) {
        outcome->value = 0;
        switch (step->verb) {
        case OUT:
            outcome->time = out(step);
            break;
        case IN:
            outcome->time = in(step, &outcome->value);
            break;
        case ACKNOWLEDGE:
            outcome->time = now();
            outcome->value = acknowledge();
            break;
        case WAIT:
            wait(step->value);
            outcome->time = now();
            break;
        }
    }
    u32 size = (u32)outcome - (u32)first;
    __asm__ volatile("rep outsb" : "+S"(first), "+c"(size) : "d"(DEBUG_CONSOLE) : "memory");
    __asm__ volatile("outw %w0, %w1" : : "a"(0), "d"(DEBUG_EXIT));
    for (;;)
        ;
}
