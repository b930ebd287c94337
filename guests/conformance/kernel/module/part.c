/*
 * The loadable part: built as the kernel is, loaded by modules.c. Its start, its
 * work and its end execute sensitive operations and say what they did.
 */
#include "../accessors.h"

#define START __attribute__((section(".init.text")))

static const char information[] __attribute__((section(".modinfo"), used)) = "name=part";

void part_start(void);
void part_work(void);
void part_end(void);
bool part_check(void);

static u32 initialized = 0x1234, zero;
static u32 *const pointers[] = {&initialized, &zero};
static void (*work)(void) = part_work;

static u32 with_flags(u32 value) {
    u32 after;
    asm volatile("push %1; popf; pushf; pop %0" : "=r"(after) : "r"(value) : "cc", "memory");
    return after;
}

/* What follows is inlined, so that each caller has sites of its own. */

INLINE void interrupt_flag(const char *who) {
    cli();
    u32 off = flags();
    sti();
    u32 on = flags();
    cli();
    say("%s: IF after cli %u, after sti %u, then %u", who, !!(off & IF), !!(on & IF), !!(flags() & IF));
}

INLINE void ports(const char *who) {
    u8 before = inb(0x21), again, twice[2];
    void *to = twice;
    u32 count = sizeof twice;
    outb(0x21, 0xfb);
    again = inb(0x21);
    asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(0x21) : "memory");
    outb(0x21, before);
    say("%s: mask of interrupts %x, then %x, as a string %x %x, %u left", who, before, again, twice[0], twice[1], count);
}

INLINE void control(const char *who) {
    u32 word;
    asm volatile("smsw %0" : "=r"(word));
    say("%s: cr0 %x, smsw %x, cr3 %s, cr4 %x", who, read_cr0(), word & 0xffff,
        read_cr3() == (u32)page_directory ? "as written" : "another", read_cr4());
}

/* What would not trap: it shows the real machine unless the site was substituted. */
INLINE void tables(const char *who) {
    struct table_register gdtr, idtr;
    u32 task, local, cs, ss;
    asm volatile("sgdt %0" : "=m"(gdtr));
    asm volatile("sidt %0" : "=m"(idtr));
    asm volatile("str %0; sldt %1; mov %%cs, %2; mov %%ss, %3" : "=r"(task), "=r"(local), "=r"(cs), "=r"(ss));
    say("%s: gdt %s %x, idt %s %x, tr %x, ldt %x, cs %x, ss %x", who, gdtr.base == (u32)gdt ? "the kernel's" : "another",
        gdtr.limit, idtr.base == (u32)idt ? "the kernel's" : "another", idtr.limit, task, local, cs, ss);
}

INLINE void back_by_iret(const char *who) {
    u32 after;
    asm volatile("pushf; push %%cs; push $1f; iret; 1: push %%cs; pop %0" : "=r"(after) : : "memory");
    say("%s: iret to %x", who, after);
}

INLINE void everything(const char *who) {
    interrupt_flag(who);
    ports(who);
    control(who);
    tables(who);
    back_by_iret(who);
}

START void part_start(void) { everything("start"); }

void part_work(void) {
    everything("work");
    say("work: popf %f, %f", with_flags(FIXED | IF | CF), with_flags(FIXED | ZF));
    or32(&initialized, 0x50000);
    put16(&initialized, (u16)(get16(&initialized) + 1));
    say("work: as if it were a device's: %x, %x", read32(&initialized), read8_wide(&initialized));
}

void part_end(void) {
    interrupt_flag("end");
    *pointers[1] += *pointers[0];
    say("end: data %x, bss %x, %s", initialized, zero, work == part_work ? "relocated" : "not relocated");
}

/* Says nothing. */
bool part_check(void) {
    cli();
    u32 off = flags();
    sti();
    u32 on = flags();
    cli();
    return !(off & IF) && on & IF;
}

/* What can fail, for run(): it does not return. */
asm(".globl part_load_segment, part_load_segment_end\n"
    "part_load_segment: mov %eax, %es\n"
    "part_load_segment_end: jmp run_done");
