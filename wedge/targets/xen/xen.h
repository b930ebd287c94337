/* The parts of the Xen target, what they need of each other, and Xen's interface. */
#ifndef PREVIRT_XEN_H
#define PREVIRT_XEN_H

#include <stdint.h>

#define __XEN_INTERFACE_VERSION__ 0x00040e00
/* What the rings in these headers order their accesses with. */
#define xen_mb() __atomic_thread_fence(__ATOMIC_SEQ_CST)
#define xen_rmb() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define xen_wmb() __atomic_thread_fence(__ATOMIC_RELEASE)

#include <xen/event_channel.h>
#include <xen/features.h>
#include <xen/grant_table.h>
#include <xen/io/blkif.h>
#include <xen/io/console.h>
#include <xen/io/protocols.h>
#include <xen/io/xenbus.h>
#include <xen/io/xs_wire.h>
#include <xen/memory.h>
#include <xen/physdev.h>
#include <xen/sched.h>
#include <xen/vcpu.h>
#include <xen/version.h>
#include <xen/xen.h>

#include "core/types.h"
#include "generated/boot.h"
#include "generated/xen.h"
#include "run/run.h"

/*
 * Who runs where. Xen gives ring 1 to its guest's kernel; here that is the
 * wedge. The guest kernel runs in ring 2, so that a trap in it switches to a
 * stack that is always there, as the hardware's would through the TSS; to
 * paging rings 1 and 2 are both supervisor. User code runs in ring 3.
 */
#define XEN_CS FLAT_RING1_CS
#define XEN_DS FLAT_RING1_DS
#define GUEST_RING 2u

/* --- Hypercalls (xen/include/public/arch-x86/xen-x86_32.h): number in the page, arguments in ebx ecx edx esi edi --- */

extern u8 hypercall_page[];

static inline long hypercall(u32 number, u32 a, u32 b, u32 c, u32 d, u32 e) {
    long result = (long)hypercall_page + number * 32;
    __asm__ volatile("call *%%eax"
                     : "+a"(result), "+b"(a), "+c"(b), "+d"(c), "+S"(d), "+D"(e)
                     :
                     : "memory");
    return result;
}

#define HYPERCALL(name, ...) HYPERCALL_(__HYPERVISOR_##name, __VA_ARGS__, 0, 0, 0, 0, 0)
#define HYPERCALL_(number, a, b, c, d, e, ...) \
    hypercall(number, (u32)(a), (u32)(b), (u32)(c), (u32)(d), (u32)(e))

/* --- main.c --- */

extern start_info_t *start_info;
extern shared_info_t shared_info; /* Xen's page, mapped over ours */
/* One line for whoever runs the guest, and the end of the run. */
__attribute__((noreturn)) void xen_fail(const char *what);
/* The same for a refused hypercall. */
__attribute__((noreturn)) void xen_refused(const char *name, long result, u32 a, u32 b);
/* Takes note of what Xen has announced, and acknowledges it. */
void events_take(void);

/* --- memory.c: machine memory, guest RAM, windows on it --- */

typedef struct {
    u32 value;
} mfn_t; /* a machine page frame */

void memory_start(void);
/* The domain builder's directory for the last GiB, where the wedge lies. */
const u64 *memory_builder_directory(void);
void memory_load(const struct boot_header *boot);
struct machine_state;
/* Waits until a guest's RAM and state have been written here from outside: its state, and behind it its sites. */
const struct machine_state *memory_await(u32 most_sites);
/* A page of the domain that has no use yet, cleared. */
mfn_t memory_take_page(void);
void memory_clear(mfn_t page);
/* Keeps a part of the prepared machine mapped, at another address. */
void *memory_keep(const void *at, u32 size);
/* The machine page of a guest-physical one; false behind the end of RAM. */
bool memory_machine_page(u32 page, mfn_t *machine);
/* More pages of the wedge's own, cleared, one after the other. */
void *memory_grow(u32 pages);
/* Changes the mapping of a page of the wedge's own. */
void memory_map_own(const void *at, mfn_t machine, bool writable);
/* Lets the outside know which pages the domain has. */
void memory_show_pages(struct boot_header *boot);
/* The machine page under an address of the wedge's own. */
mfn_t memory_own_page(const void *at);

/* --- shadow.c: the page tables that Xen uses --- */

void shadow_start(void);
/* Hands over what has been collected; before guest code runs. */
void shadow_commit(void);
/* Xen's entry for a page from COMMON_BASE on, as the hardware has left it; NULL if there is no table for it. */
const u64 *shadow_common_entry(u32 page);
void shadow_change_common_entry(u32 page, u64 value);

/* --- written.c: which pages of guest RAM have been written to --- */

void written_start(u32 ram_pages);
/* A page of guest RAM is mapped writable at a page of the guest's address space. */
void written_mapped(u32 page, u32 at);

/* --- segments.c: the descriptor table that Xen uses --- */

void segments_start(void);

/* --- clock.c --- */

void clock_start(void);
/* Waits for an event at a port, `timeout` nanoseconds at most; it may be one that came before. */
void port_wait(evtchn_port_t port, u32 timeout);

/* --- console.c --- */

/* The domain that Xen starts by itself, which owns the machine and has no store. */
static inline bool is_initial(void) { return start_info->flags & SIF_INITDOMAIN; }
void xen_console_start(void);
extern evtchn_port_t console_port, timer_port, store_port;
/* Takes what input there is. */
void xen_console_take(void);

/* --- disk.c --- */

void disk_start(void);

/* --- switch.S --- */

/* What Xen pushes for a trap, with what the stub adds in front; ESP and SS because it came from an outer ring. */
struct frame {
    u32 vector, error;
    u32 eip, cs, eflags, esp, ss;
};
extern u8 to_wedge_end[]; /* behind the int $0x80 by which entries reach C */
extern u8 stack_top[];
void trap_stubs(void);
void upcall(void);
void failsafe(void);
__attribute__((noreturn)) void wedge_leave(void);

/* --- traps.c --- */

void traps_start(void);

#endif
