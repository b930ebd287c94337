/* The parts of the hosted target, and what they need of each other. */
#ifndef PREVIRT_HOSTED_H
#define PREVIRT_HOSTED_H

#include "generated/boot.h"
#include "generated/hosted.h"
#include "run/run.h"

#include "host.h"

/* Host selectors of flat user segments (Linux, arch/x86/include/asm/segment.h). */
#define HOST_CS32 0x23
#define HOST_DS 0x2b
#define HOST_CS64 0x33

/* main.c */
__attribute__((noreturn)) void host_fail(const char *what, long result);
extern struct boot_header boot;

/* memory.c: guest RAM and the host mappings of guest-virtual pages */
void memory_start(u64 ram_size);
void memory_load(u64 address, u64 file_offset, u64 length);
void memory_await(void);
extern int ram_fd, absent_fd;
/* Lowest guest-virtual address that the host lets us map (vm.mmap_min_addr). */
extern u32 map_floor;

/* low.c: accesses below map_floor */
extern u8 low_code[]; /* the page of LOW_CODE, writable */
/* Where the guest is to go on really: at cpu.eip, or at the copy of the instruction there if that has just been made. */
u32 low_enter(void);
/* What the guest knows a real EIP as, and a real address of an access. */
u32 low_guest_eip(u32 real);
u32 low_guest_address(u32 real);

/* clock.c: time and the one timer */
void clock_start(const u64 *auxiliary);

/* console.c */
/* Waits for input or the end of the timeout, then moves input to the UART. */
void console_wait(const struct __kernel_timespec *timeout);

/* switch.S */
extern char leave_restart[], leave_begin[], leave_end[];
__attribute__((noreturn)) void wedge_leave(void);
void signal_return(void);

/* signals.c */
void signals_start(void);

/* seccomp.c */
void seccomp_start(void);

#endif
