// SPDX-License-Identifier: MIT
/*
 * A module outside the kernel's tree that executes every kind of sensitive
 * operation that a kernel may, in initialization and in exit code, and says
 * whether each did what it does on bare hardware.
 */
#include <asm/alternative.h>
#include <linux/init.h>
#include <linux/irqflags.h>
#include <linux/module.h>

static bool quiet;
module_param(quiet, bool, 0);

static unsigned int count, failed;

#define CHECK(name, condition)                          \
	do {                                            \
		count++;                                \
		if (!(condition)) {                     \
			failed++;                       \
			pr_info("every: %s fails\n", name); \
		}                                       \
	} while (0)

static u8 ports[4];
static u8 table[6];

/* Inlined twice, so that initialization and exit code have sites of their own. */
static __always_inline void flags(void)
{
	unsigned long before, off, on, after;

	asm volatile("pushfl; popl %0; cli; pushfl; popl %1; sti; pushfl; popl %2; pushl %0; popfl; pushfl; popl %3"
		     : "=&r"(before), "=&r"(off), "=&r"(on), "=&r"(after) : : "memory", "cc");
	CHECK("cli", !(off & X86_EFLAGS_IF));
	CHECK("sti", on & X86_EFLAGS_IF);
	CHECK("popf", (before & X86_EFLAGS_IF) == (after & X86_EFLAGS_IF));
	asm volatile("pushl $0; popfl; pushfl; popl %0; pushl %1; popfl" : "=&r"(off) : "r"(before) : "memory", "cc");
	CHECK("popf off", !(off & X86_EFLAGS_IF) && !(off & X86_EFLAGS_IOPL));
	asm volatile("sti; hlt" : : : "memory");
	CHECK("hlt", true);
	/* The first is for every processor that there is, the second for none. */
	asm volatile(ALTERNATIVE("xorl %0, %0", "pushfl; popl %0", X86_FEATURE_ALWAYS) : "=r"(after) : : "memory", "cc");
	CHECK("alternative", after & 2);
	asm volatile(ALTERNATIVE("pushfl; popl %0", "xorl %0, %0", X86_FEATURE_3DNOW) : "=r"(after) : : "memory", "cc");
	CHECK("no alternative", after & 2);
	asm volatile("pushfl; push %%cs; push $1f; iret; 1:" : : : "memory", "cc");
	CHECK("iret", true);
}

static __always_inline void ports_in_and_out(void)
{
	u8 mask, again;
	void *to = ports;
	const void *from = ports;
	unsigned long n = 2;

	asm volatile("inb $0x21, %0; outb %0, $0x21" : "=a"(mask));
	asm volatile("inb %w1, %0" : "=a"(again) : "Nd"((u16)0x21));
	CHECK("in", mask == again);
	asm volatile("outb %0, %w1" : : "a"(mask), "Nd"((u16)0x21));
	asm volatile("rep; insb" : "+D"(to), "+c"(n) : "d"((u16)0x21) : "memory");
	CHECK("ins", ports[0] == mask && ports[1] == mask && n == 0);
	n = 2;
	asm volatile("rep; outsb" : "+S"(from), "+c"(n) : "d"((u16)0x21));
	CHECK("outs", n == 0);
}

static __always_inline void registers(void)
{
	unsigned long value, again;
	u16 word;

	asm volatile("mov %%cr0, %0; mov %0, %%cr0; mov %%cr0, %1" : "=&r"(value), "=&r"(again) : : "memory");
	CHECK("cr0", value == again && (value & 0x80000001) == 0x80000001);
	asm volatile("smsw %0" : "=r"(word));
	CHECK("smsw", word == (u16)value);
	asm volatile("lmsw %0" : : "r"(word));
	asm volatile("clts; mov %%cr0, %0; mov %1, %%cr0" : "=&r"(again) : "r"(value) : "memory");
	CHECK("clts", !(again & 8));
	asm volatile("mov %%cr2, %0; mov %0, %%cr2; mov %%cr2, %1" : "=&r"(value), "=&r"(again));
	CHECK("cr2", value == again);
	asm volatile("mov %%cr3, %0; mov %0, %%cr3; mov %%cr3, %1" : "=&r"(value), "=&r"(again) : : "memory");
	CHECK("cr3", value == again && value);
	asm volatile("mov %%cr4, %0; mov %0, %%cr4; mov %%cr4, %1" : "=&r"(value), "=&r"(again) : : "memory");
	CHECK("cr4", value == again);
	asm volatile("mov %%db7, %0; mov %0, %%db7; mov %%db6, %1" : "=&r"(value), "=&r"(again));
	CHECK("dr", (value & 0x400) && (again & 0xffff0ff0) == 0xffff0ff0);
	asm volatile("invlpg %0; wbinvd" : : "m"(*(char *)&failed) : "memory");
	CHECK("invlpg", true);
}

static __always_inline void tables(void)
{
	u16 ldt, task;

	asm volatile("sgdt %0" : "=m"(table));
	CHECK("sgdt", *(u16 *)table >= 0xff);
	asm volatile("lgdt %0; sidt %0" : "+m"(table));
	CHECK("sidt", *(u16 *)table == 0x7ff);
	asm volatile("lidt %0" : : "m"(table));
	asm volatile("sldt %0; str %1" : "=r"(ldt), "=r"(task));
	CHECK("str", task && !(task & 7));
	asm volatile("lldt %0" : : "r"(ldt));
}

static __always_inline void segments(void)
{
	u16 ds, es, fs, gs, cs, ss;
	unsigned long rights, limit;
	bool valid, readable, writable;
	struct {
		u32 offset;
		u16 selector;
	} __packed far;

	asm volatile("mov %%ds, %0; mov %%es, %1; mov %%fs, %2; mov %%gs, %3; mov %%cs, %4; mov %%ss, %5"
		     : "=r"(ds), "=r"(es), "=r"(fs), "=r"(gs), "=r"(cs), "=r"(ss));
	CHECK("selectors", !(cs & 3) && !(ss & 3) && ds == es);
	asm volatile("mov %0, %%ds; mov %1, %%es; mov %2, %%fs; mov %3, %%gs; mov %4, %%ss"
		     : : "r"(ds), "r"(es), "r"(fs), "r"(gs), "r"(ss) : "memory");
	asm volatile("push %%ds; pop %%ds; push %%es; pop %%es; push %%fs; pop %%fs; push %%gs; pop %%gs; "
		     "push %%ss; pop %%ss; push %%cs; addl $4, %%esp" : : : "memory", "cc");
	far.offset = 1;
	far.selector = es;
	asm volatile("les %1, %0" : "=r"(rights) : "m"(far));
	CHECK("les", rights == 1);
	asm volatile("lar %2, %0; lsl %2, %1" : "=&r"(rights), "=&r"(limit) : "r"((u32)cs) : "cc");
	CHECK("lar", (rights & 0xf000) == 0x9000);
	CHECK("lsl", limit == 0xffffffff);
	asm volatile("verr %3; setz %0; verw %3; setz %1; verw %4; setz %2"
		     : "=&q"(valid), "=&q"(writable), "=&q"(readable) : "r"(cs), "r"(ds) : "cc");
	CHECK("verr", valid && !writable && readable);
	asm volatile("ljmp %0, $1f; 1:" : : "i"(__KERNEL_CS));
	CHECK("ljmp", true);
}

static __always_inline void identification(void)
{
	u32 a, b, c, d, high;

	a = 0;
	asm volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
	CHECK("cpuid", a >= 1);
	asm volatile("rdtsc" : "=a"(a), "=d"(d));
	asm volatile("rdtsc" : "=a"(b), "=d"(c));
	CHECK("rdtsc", ((u64)d << 32 | a) < ((u64)c << 32 | b));
	asm volatile("rdmsr; wrmsr; rdmsr" : "=a"(a), "=d"(high) : "c"(0x277));
	CHECK("rdmsr", a);
}

static __always_inline void everything(const char *where)
{
	count = failed = 0;
	flags();
	ports_in_and_out();
	registers();
	tables();
	segments();
	identification();
	if (failed || !quiet)
		pr_info("every: %s: %u operations, %u fail\n", where, count, failed);
}

static int __init every_init(void)
{
	everything("init");
	return 0;
}

static void __exit every_exit(void)
{
	everything("exit");
}

module_init(every_init);
module_exit(every_exit);
MODULE_DESCRIPTION("executes every kind of sensitive operation");
MODULE_LICENSE("Dual MIT/GPL");
