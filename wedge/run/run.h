/*
 * Running guest code: the way in from burned sites and traps, and the way out.
 * The same on every target; what a target must provide stands at the end.
 */
#ifndef PREVIRT_RUN_H
#define PREVIRT_RUN_H

#include "core/cpu.h"
#include "core/types.h"
#include "generated/run.h"
#include "mmu/mmu.h"

/* The control page: what entries and C share. */
extern struct control control;

struct boot_header;
/* start.c: the machine as firmware and boot loader leave it. */
void start_guest(const struct boot_header *boot, struct patch_entry *sites);

/* --- sites.c: the patch table --- */

/* `link_offset`: guest-virtual minus guest-physical address of the kernel, as linked. */
void sites_start(struct patch_entry *entries, u32 count, u32 link_offset);
/* The site that ends, or starts, at a run-time address; `*moved` is run-time minus linked address. */
const struct patch_entry *site_by_end(u32 end, u32 *moved);
const struct patch_entry *site_by_start(u32 start, u32 *moved);
/* Bytes of NOPs in front of the original instruction, where prefixes could not widen it. */
u32 site_filler(const struct patch_entry *site);
/* Whether interrupts are held for one instruction after it: sti, and loads of SS. */
bool site_opens_shadow(const struct patch_entry *site);

/* Tables in memory: how many, sorted by address. */
u32 sites_of_kernel(const struct patch_entry **entries, u32 *offset);
u32 sites_of_modules(const struct patch_entry **entries);
/* For each one, modules' too. */
void sites_each(void (*act)(struct patch_entry *site));

/* Sites of all modules at the same time. */
#define MODULE_SITES 8192u
/* For how many more there is room. */
u32 sites_room(void);
/* Whether any of the kernel's own reaches into [start, end). */
bool sites_are_kernels(u32 start, u32 end);
/* Adds a module's, sorted by address, none of which overlaps one that is there. */
void sites_add(const struct patch_entry *sites, u32 count);
/* Removes those of modules for which `which` is true. */
void sites_remove(bool (*which)(const struct patch_entry *site, const void *argument), const void *argument);

/* --- modules.c: what the guest's kernel announces of its modules --- */

void modules_start(u32 domains);
/* A site of kind module_*, its function's arguments in registers. False: the function is to fail without having run. */
bool modules_announced(u8 kind);
#define MODULE_REFUSED ((u32)-8) /* what it returns then: -ENOEXEC */
/* A section of a module was burned ahead of time, and its patch table lies at an address. */
void modules_carried(u32 table);

/* --- enter.c: from an entry to C, and out of C --- */

/* Real EFLAGS to the virtual CPU's, and back. */
void take_flags(u32 real);
u32 real_flags(void);
/* The site that called an entry, which is control.entry. All registers are in `cpu`; `flags` are the real ones. */
void wedge_enter(u32 flags);
/* After an interrupt 80 that C has done for user code: what entry.S may repeat without asking. */
void remember_call(void);
/* The site that ends at an address, by the generic emulator. */
void emulate_site(u32 end);
/* Whether a site is where the kernel tells of a module. */
bool site_announces(const struct patch_entry *site);
/* Looks after devices and console and delivers what is due; part of every way out. */
void wedge_service(void);
/* When it is to look at the latest. */
u64 next_deadline(void);
/* All of the way out but the jump. Returns the real flags. */
u32 wedge_leave_prepare(void);
/* Set by asynchronous events: something happened that wedge_service must look at. */
extern volatile u32 attention;
/* Real TF is ours: interrupts wait for the end of one guest instruction. */
extern bool wedge_stepping;
/* User code stepped itself into an entry: its TF was on, though it is off by now. */
extern bool user_stepping;

/* --- traps.c: what traps in guest code mean --- */

struct trap {
    u32 vector;
    u32 error;   /* as the processor pushes it; bits that tell the real privilege level are not looked at */
    u32 address; /* guest-virtual, with VECTOR_PF */
};

/* Whether the real EIP lies in entry code, not in the guest's own. */
bool in_entry_code(u32 eip);
/* A page fault that only misses a mapping, now filled: nothing else is to be done. No register is looked at. */
bool trap_only_fills(const struct trap *trap, u32 eip);
/* A trap in guest code; all registers are in `cpu`. */
void trap_in_guest(const struct trap *trap);
/*
 * An entry touched guest memory that is not there: it is unwound, and the
 * generic emulator does the site, fault and all.
 */
void trap_in_entry(const struct trap *trap);
/*
 * int $0x80 (or another vector) that the real processor has executed; cpu.eip lies behind its `length` bytes.
 * False: the guest's gate refused it, and that exception has been delivered.
 */
bool trap_software(u8 vector, u32 length);
/* An instruction the real processor refused: emulated, or the guest's own fault. */
void trap_refused(u8 vector, bool has_error, u32 error);
/*
 * An event came at guest code that has IF set, at `eip` with the real EFLAGS
 * `flags`. True if it may be delivered here; false if one instruction has to
 * finish first: then real TF must be set.
 */
bool event_may_interrupt(u32 eip, u32 flags);

/*
 * Before a step at `eip` in entry code: the stepping lasts beyond a popf, which
 * takes all flags from where the entry has pushed them. Not behind the entries:
 * there they may be the guest's own, and pending events are looked for later.
 */
void entry_step(u32 eip, u32 esp);

/* --- shown.c: what waits until the guest's page tables show its kernel --- */

/* How much waits; then kernel_look is to be called where all that an order does could be done. */
extern u32 kernel_awaited;
void kernel_look(void);

/* --- console.c: the UART's wire --- */

/* `panic` is console text that means a panic, or empty; `escape`: Ctrl-A x ends the run; `commands`: CONTROL_BYTE begins one. */
void console_start(const u8 *panic, bool escape, bool commands);
void console_flush(void);
/* Whether there is room for input. */
bool console_listens(void);
/* Moves input to the UART, after more has been taken from the host if there is some. */
void console_input(bool more);
/* Does what the letter of a command asks for (src/targets/command.ts), capital or small; between two instructions of the guest. */
void console_order(u8 letter);
/* When it wants to be called again although nothing happens, or NEVER. */
u64 console_deadline(void);
/* Ends the run after all output has been written. */
__attribute__((noreturn)) void console_end(int status);

/* --- What a target provides --- */

/* The real segment registers: what user code may have loaded is taken over into `cpu`. */
void segments_capture(void);
/* Loads what `cpu` says. True if anything real changed. */
bool segments_apply(bool strict);
/* Whether they may lack some of it while guest code runs: then an access through one faults. */
bool segments_are_lazy(void);

/* Arms the timer for next_deadline, if that has changed. */
void clock_arm(void);
/* Waits for next_deadline or for input; input goes to the UART. */
void clock_wait(void);
/* Moves what input there is to the UART. */
void console_poll(void);

/* Console output, and input: bytes read; 0 at its end, negative if there is none now. */
void port_transmit(const u8 *bytes, u32 length);
s32 port_receive(u8 *bytes, u32 size);
/* Ends the run. */
__attribute__((noreturn)) void port_end(int status);

/* Whether accesses to an address trap although it is mapped; then each is done by port_access. False with #PF raised. */
bool port_unmappable(u32 address);
bool port_access(const u8 *bytes, unsigned count, u32 address, access_t access);
/* Whether an int3 at an address was the end of such an access; cpu.eip is right then. */
bool port_access_ends(u32 eip);

#endif
