/* The parts of the hosted target, and what they need of each other. */
#ifndef PREVIRT_HOSTED_H
#define PREVIRT_HOSTED_H

#include "core/cpu.h"
#include "core/types.h"
#include "generated/hosted.h"
#include "mmu/mmu.h"

#include "host.h"

/* Host selectors of flat user segments (Linux, arch/x86/include/asm/segment.h). */
#define HOST_CS32 0x23
#define HOST_DS 0x2b
#define HOST_CS64 0x33

/* The control page and its two addresses: below 4 GiB for the entries, here for C. */
extern struct control control;

/* main.c */
__attribute__((noreturn)) void host_fail(const char *what, long result);
extern struct boot_header boot;

/* memory.c: guest RAM and the host mappings of guest-virtual pages */
void memory_start(u64 ram_size);
void memory_load(u64 address, u64 file_offset, u64 length);
extern int ram_fd, absent_fd;
/* Lowest guest-virtual address that the host lets us map (vm.mmap_min_addr). */
extern u32 map_floor;

/* low.c: accesses below map_floor. False with #PF raised. */
bool low_access(const u8 *bytes, unsigned count, u32 address, access_t access);
/* Whether an int3 at an address ended such an access; cpu.eip is right then. */
bool low_return(u64 address);
extern u8 low_code[]; /* the page of LOW_CODE, writable */

/* clock.c: time and the one timer */
void clock_start(const u64 *auxiliary);
/* Arms the timer for the devices' next deadline, if that has changed. */
void clock_arm(void);
void clock_wait(void);

/* console.c */
/* Waits for input or the end of the timeout, then moves input to the UART. */
void console_wait(const struct __kernel_timespec *timeout);
void console_poll(void); /* the same without waiting */
void console_flush(void); /* writes what the UART has sent */

/* sites.c: the patch table */
void sites_start(const struct patch_entry *entries, u32 count);
/* The site that ends, or starts, at a run-time address; `*moved` is run-time minus linked address. */
const struct patch_entry *site_by_end(u32 end, u32 *moved);
const struct patch_entry *site_by_start(u32 start, u32 *moved);
/* Bytes of NOPs in front of the original instruction, where prefixes could not widen it. */
u32 site_filler(const struct patch_entry *site);
/* Whether interrupts are held for one instruction after it: sti, and loads of SS. */
bool site_opens_shadow(const struct patch_entry *site);

/* segments.c: the real segment registers */
void segments_capture(void); /* user code may have changed them */
/* Loads what the virtual CPU says. True if anything real changed. */
bool segments_apply(bool strict);

/* enter.c */
/* Real EFLAGS to the virtual CPU's, and back. */
void take_flags(u32 real);
u32 real_flags(void);
void wedge_enter(void);
/* The site that ends at an address, by the generic emulator. */
void emulate_site(u32 end);
void wedge_leave_prepare(void);
/* Looks after devices and console and delivers what is due; part of every way out. */
void wedge_service(void);
/* Set by asynchronous signals: something happened that wedge_service must look at. */
extern volatile u32 attention;
/* Real TF is ours: interrupts wait for the end of one guest instruction. */
extern bool wedge_stepping;
/* User code stepped itself into an entry: its TF was on, though it is off by now. */
extern bool user_stepping;

/* switch.S */
extern char leave_restart[], leave_begin[], leave_end[];
extern u32 captured_flags, leave_flags;
__attribute__((noreturn)) void wedge_leave(void);
void signal_return(void);

/* signals.c */
void signals_start(void);

/* seccomp.c */
void seccomp_start(void);

#endif
