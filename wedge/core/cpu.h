/*
 * The virtual CPU: one i386 processor, seen from the outside.
 *
 * Guest code runs on the real processor; this is what the wedge knows of it
 * while it does not. Whoever enters the wedge (an entry that a burned site
 * called, a trap) stores the real registers here, lets the core work on them,
 * and loads them again on the way out.
 */
#ifndef PREVIRT_CPU_H
#define PREVIRT_CPU_H

#include "types.h"

#include "generated/cpu-state.h"

enum gpr { EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI };
enum segment_register { ES, CS, SS, DS, FS, GS };

/* EFLAGS (SDM vol. 1, 3.4.3). */
enum {
    FLAG_CF = 1u << 0,
    FLAG_FIXED = 1u << 1,
    FLAG_PF = 1u << 2,
    FLAG_AF = 1u << 4,
    FLAG_ZF = 1u << 6,
    FLAG_SF = 1u << 7,
    FLAG_TF = 1u << 8,
    FLAG_IF = 1u << 9,
    FLAG_DF = 1u << 10,
    FLAG_OF = 1u << 11,
    FLAG_IOPL = 3u << 12,
    FLAG_NT = 1u << 14,
    FLAG_RF = 1u << 16,
    FLAG_VM = 1u << 17,
    FLAG_AC = 1u << 18,
    FLAG_ID = 1u << 21,
    FLAGS_VIRTUAL = FLAG_IF | FLAG_IOPL | FLAG_VM, /* not kept by the real processor */
    /*
     * Kept apart while the guest kernel runs: its TF, because the wedge steps
     * with the real one too; its AC, because it runs where AC has an effect.
     */
    FLAGS_APART = FLAG_TF | FLAG_AC,
};

/* Control registers (SDM vol. 3A, 2.5). */
enum {
    CR0_PE = 1u << 0,
    CR0_MP = 1u << 1,
    CR0_EM = 1u << 2,
    CR0_TS = 1u << 3,
    CR0_ET = 1u << 4,
    CR0_NE = 1u << 5,
    CR0_WP = 1u << 16,
    CR0_NW = 1u << 29,
    CR0_CD = 1u << 30,
    CR0_PG = 1u << 31,
    CR4_VME = 1u << 0,
    CR4_TSD = 1u << 2,
    CR4_DE = 1u << 3,
    CR4_PSE = 1u << 4,
    CR4_PAE = 1u << 5,
    CR4_MCE = 1u << 6,
    CR4_PGE = 1u << 7,
    CR4_OSFXSR = 1u << 9,
    CR4_OSXMMEXCPT = 1u << 10,
    CR4_OSXSAVE = 1u << 18,
    XCR0_X87 = 1u << 0,
    XCR0_SSE = 1u << 1,
};

/* Exception vectors (SDM vol. 3A, table 6-1). */
enum vector {
    VECTOR_DE = 0,
    VECTOR_DB = 1,
    VECTOR_BP = 3,
    VECTOR_OF = 4,
    VECTOR_BR = 5,
    VECTOR_UD = 6,
    VECTOR_NM = 7,
    VECTOR_DF = 8,
    VECTOR_TS = 10,
    VECTOR_NP = 11,
    VECTOR_SS = 12,
    VECTOR_GP = 13,
    VECTOR_PF = 14,
    VECTOR_MF = 16,
    VECTOR_AC = 17,
    VECTOR_XM = 19,
};

/* Bits of a page fault's error code (SDM vol. 3A, 4.7). */
enum { PF_PRESENT = 1, PF_WRITE = 2, PF_USER = 4, PF_RESERVED = 8 };

/* Descriptor attributes as struct segment holds them. */
enum {
    ATTR_TYPE = 0xf,
    ATTR_ACCESSED = 1u << 0,
    ATTR_WRITABLE = 1u << 1, /* data */
    ATTR_READABLE = 1u << 1, /* code */
    ATTR_CONFORMING = 1u << 2, /* code; expand-down for data */
    ATTR_CODE = 1u << 3,
    ATTR_S = 1u << 4,
    ATTR_DPL_SHIFT = 5,
    ATTR_PRESENT = 1u << 7,
    ATTR_BIG = 1u << 14,
    ATTR_GRANULARITY = 1u << 15,
};

static inline u16 descriptor_attributes(const u32 words[2]) { return words[1] >> 8 & 0xf0ff; }

static inline unsigned dpl(u16 attributes) { return attributes >> ATTR_DPL_SHIFT & 3; }

/* An exception that an operation of the core ran into and has not delivered. */
struct exception {
    u8 vector;
    bool has_error;
    u32 error;
    u32 cr2; /* with VECTOR_PF */
};

extern struct exception exception; /* valid where a function below has returned false */

/* How every function of the core that can fault ends: `return raise(...)`. Always false. */
bool raise(enum vector vector, u32 error);
bool raise_page_fault(u32 address, u32 error);
bool raise_plain(enum vector vector); /* a vector without an error code */

/* The whole EFLAGS as the guest would see it. */
static inline u32 cpu_flags(void) {
    return (cpu.eflags & ~(u32)FLAGS_VIRTUAL) | FLAG_FIXED | cpu.interrupt_flag |
           (cpu.system_flags & FLAG_IOPL);
}

/* Replaces all of EFLAGS but VM, which is refused where it can be asked for. */
void cpu_set_flags(u32 flags);

static inline u32 cpu_iopl(void) { return (cpu.system_flags >> 12) & 3; }

/* Registers of 8, 16 and 32 bits by their encoding. */
u32 cpu_register(unsigned number, unsigned size);
void cpu_set_register(unsigned number, unsigned size, u32 value);

/*
 * Segment loads with all their checks and faults (SDM vol. 2, MOV).
 * `segment` is any but CS.
 */
bool cpu_load_segment(enum segment_register segment, u16 selector);
bool cpu_load_ldtr(u16 selector);
bool cpu_load_tr(u16 selector);

/* Reads a descriptor as two words. False (with #GP(selector)) if it lies outside its table. */
bool cpu_read_descriptor(u16 selector, u32 words[2]);
/* Fills a segment register from a descriptor that has been checked. */
void cpu_set_segment(struct segment *segment, u16 selector, const u32 words[2]);
/* Re-reads the descriptors of FS and GS: TLS descriptors are plain memory to the guest. */
void cpu_refresh_tls(void);

/*
 * Enters the guest's handler of a vector: pushes the frame, switches stacks.
 * Deals with nested faults up to the triple fault, which resets the machine.
 * `eip` in the frame is cpu.eip as it stands.
 */
void cpu_deliver_exception(const struct exception *cause);
/* int n, int3, into: cpu.eip lies after the instruction. False if the gate refuses. */
bool cpu_software_interrupt(u8 vector);

/* iret with a 32-bit or 16-bit frame at ESP. */
bool cpu_iret(unsigned size);
bool cpu_far_return(unsigned size, u32 release);
bool cpu_far_jump(u16 selector, u32 offset);
bool cpu_far_call(u16 selector, u32 offset, unsigned size);
bool cpu_sysenter(void);
bool cpu_sysexit(void);

/* Delivers a waiting interrupt if IF and the interrupt shadow allow. True if one was delivered. */
bool cpu_poll_interrupts(void);

void cpu_reset(void);

#endif
