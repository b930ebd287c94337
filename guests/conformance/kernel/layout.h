/* Addresses, selectors and vectors that C and assembly share. */
#ifndef CONFORMANCE_LAYOUT_H
#define CONFORMANCE_LAYOUT_H

/* Guest-virtual. */
#define USER_CODE 0x40000000      /* the user program, linked there */
#define USER_STACK_TOP 0x40011000 /* one page below it */
#define USER_DATA 0x40020000      /* one page */
#define FIXED_OPERAND (USER_DATA + 0x800) /* an operand at an address that assembly can name */
#define WINDOW 0x80000000         /* one page table's worth of pages that tests map as they like */
#define BIG_WINDOW 0x80400000     /* two directory entries for 4 MiB pages and second tables */

/* Guest-physical. */
#define IDENTITY_START 0x00010000 /* identity-mapped by the kernel from here ... */
#define IDENTITY_END 0x01000000   /* ... to here */
#define SCRATCH_FRAMES 0x00800000 /* frames that tests may fill */
#define SCRATCH_BIG 0x00c00000    /* one aligned 4 MiB frame */

/* Selectors. */
#define KERNEL_CS 0x60
#define KERNEL_DS 0x68
#define USER_CS 0x73
#define USER_DS 0x7b
#define TLS_A 0x33 /* two descriptors that tests change by plain stores */
#define TLS_B 0x3b
#define TSS_SELECTOR 0x80
#define LDT_SELECTOR 0x88
#define ABSENT_DATA 0x90    /* not present, DPL 0 */
#define ABSENT_CODE 0x98    /* not present, DPL 0 */
#define READ_ONLY_DATA 0xa0 /* DPL 0 */
#define EXECUTE_ONLY 0xa8   /* DPL 0 */
#define CONFORMING_CS 0xb0  /* DPL 0 */
#define SMALL_DATA 0xb8     /* DPL 3, limit 0xfff */
#define ABSENT_USER 0xc3    /* data, not present, DPL 3 */
#define CALL_GATE 0xc8      /* DPL 3, to gate_target */
#define SPARE_TSS 0xd0      /* an available TSS that nothing runs on */
#define BASED_DATA 0xdb     /* DPL 3, base USER_DATA, limit 0xfff */
#define GDT_ENTRIES 28
#define BEYOND_GDT (GDT_ENTRIES * 8)

/* Interrupt vectors. */
#define IRQ_VECTOR 0x20   /* IRQ 0-15 go to 0x20-0x2f */
#define GATE_KERNEL 0x40  /* interrupt gate, DPL 0 */
#define GATE_ABSENT 0x41  /* not present, DPL 3 */
#define GATE_SYSCALL 0x80 /* interrupt gate, DPL 3: how user code ends a run */
#define GATE_TRAP 0x81    /* trap gate, DPL 3 */

#endif
