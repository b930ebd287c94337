/*
 * The entries: where burned sites call to. Linked at ENTRY_BASE, one every
 * ENTRY_SIZE bytes, position fixed by src/substitution/entries.ts.
 *
 * They run as 32-bit guest code on the guest's stack, with the site's end as
 * return address, and preserve every register and flag the original
 * instruction would. `jecxz` tests and `lea` and `not` compute, because they
 * leave the flags alone. Memory is reached through SS: the guest's DS may be
 * null. None of them looks for interrupts except where the
 * instruction may set IF: an event that finds one in progress lets it finish
 * by single-stepping, and a page fault unwinds it (traps.c): so whatever an
 * entry pushes it pushes first, before it changes a register.
 *
 * A target includes this file and adds the short ways it has (call_from_user,
 * return_to_user, to_devices, load_real_fs) and the way into C (to_wedge).
 */

#include "generated/run-asm.h"

#define SELECTOR(register) (CONTROL_PAGE + CPU_SEGMENTS + register * SEGMENT_SIZE + SEGMENT_SELECTOR)
#define GPR(n) (CONTROL_PAGE + CPU_GPR + n * 4)
#define INTERRUPT_FLAG (CONTROL_PAGE + CPU_INTERRUPT_FLAG)
#define SYSTEM_FLAGS (CONTROL_PAGE + CPU_SYSTEM_FLAGS)
#define PENDING (CONTROL_PAGE + CPU_PENDING)
#define RETURN_WORK (CONTROL_PAGE + CPU_RETURN_WORK)
#define CPL (CONTROL_PAGE + CPU_CPL)
#define CALL(field) (CONTROL_PAGE + CONTROL_CALL_##field)
#define USER(field) (CONTROL_PAGE + CONTROL_USER_##field)
#define RETURN_EIP (CONTROL_PAGE + CONTROL_RETURN_EIP)
#define REAL(register) (CONTROL_PAGE + CONTROL_REAL_SELECTORS + register * 2)
#define FLAT(field) (CONTROL_PAGE + CONTROL_FLAT_##field)
#define KEPT(register) (CONTROL_PAGE + CONTROL_KEPT_##register)
#define INDEX (CONTROL_PAGE + CONTROL_ENTRY)

    .set CPU_cr0, CPU_CR0
    .set CPU_cr2, CPU_CR2
    .set CPU_cr3, CPU_CR3
    .set CPU_cr4, CPU_CR4
    .set SEGMENT_cs, SELECTOR(1) - SEGMENT_SELECTOR
    .set SEGMENT_ss, SELECTOR(2) - SEGMENT_SELECTOR
    .set SEGMENT_fs, SELECTOR(4) - SEGMENT_SELECTOR
    .set SEGMENT_gs, SELECTOR(5) - SEGMENT_SELECTOR
    .set REAL_es, REAL(0)
    .set REAL_ds, REAL(3)
    .set REAL_fs, REAL(4)
    .set REAL_gs, REAL(5)
    .set SELECTOR_es, SELECTOR(0)
    .set SELECTOR_cs, SELECTOR(1)
    .set SELECTOR_ss, SELECTOR(2)
    .set SELECTOR_ds, SELECTOR(3)
    .set SELECTOR_fs, SELECTOR(4)
    .set SELECTOR_gs, SELECTOR(5)

    ENTRY_SECTION
    .code32

.macro entry index
    .org (\index) * ENTRY_SIZE
.endm

/* The slow way: C on the wedge's own stack. */
.macro slow index
    movl $\index, %ss:INDEX
    jmp to_wedge
.endm

.macro slow_entry index
    entry \index
    slow \index
.endm

/* Port I/O by bytes, for which a target may have a shorter way. */
.macro device_entry index
    entry \index
    movl $\index, %ss:INDEX
    jmp to_devices
.endm

    slow_entry ENTRY_emulate

    entry ENTRY_cli
    movl $0, %ss:INTERRUPT_FLAG
    ret

    /* IF is set between two looks: at the first one C can still tell whether a shadow begins. */
    entry ENTRY_sti
    push %ecx
    movl %ss:PENDING, %ecx
    jecxz 1f
0:  pop %ecx
    slow ENTRY_sti
1:  movl $0x200, %ss:INTERRUPT_FLAG
    movl %ss:PENDING, %ecx
    jecxz 2f
    movl $0, %ss:INTERRUPT_FLAG
    jmp 0b
2:  pop %ecx
    ret

    entry ENTRY_pushf
    push (%esp)                     /* return address; the flags go where it was */
    pushfl
    push %eax
    movl 4(%esp), %eax
    andl $~(0x200 | 0x100 | 0x3000 | 0x40000), %eax
    orl %ss:INTERRUPT_FLAG, %eax
    orl %ss:SYSTEM_FLAGS, %eax
    movl %eax, 12(%esp)
    pop %eax
    popfl
    ret

    /* Only what ring 3 may change by itself: not TF, IOPL, NT, VM; nor AC, which means something there. */
    entry ENTRY_popf
    push %eax
    push 8(%esp)
    movl (%esp), %eax
    orl %ss:SYSTEM_FLAGS, %eax
    testl $0x67100, %eax
    jnz 1f
    movl (%esp), %eax
    andl $0x200, %eax
    movl %eax, %ss:INTERRUPT_FLAG
    popfl
    jmp popf_return
1:  pop %eax
    pop %eax
    slow ENTRY_popf

    entry ENTRY_iret
    pushfl
    movl $ENTRY_iret, %ss:INDEX
    jmp return_to_user
    slow_entry ENTRY_hlt
    device_entry ENTRY_in8
    slow_entry ENTRY_in16
    slow_entry ENTRY_in32
    device_entry ENTRY_out8
    slow_entry ENTRY_out16
    slow_entry ENTRY_out32
    entry ENTRY_entry_int80
    jmp call_from_user
    slow_entry ENTRY_entry_sysenter
    entry ENTRY_emulate_rdtsc
    pushfl
    rdtsc
    addl %ss:CONTROL_PAGE + CPU_TSC_OFFSET, %eax
    adcl %ss:CONTROL_PAGE + CPU_TSC_OFFSET + 4, %edx
    popfl
    ret
    slow_entry ENTRY_emulate_rdtscp
    slow_entry ENTRY_emulate_rdmsr
    slow_entry ENTRY_emulate_wrmsr
    slow_entry ENTRY_emulate_cpuid
    slow_entry ENTRY_emulate_clac
    slow_entry ENTRY_emulate_stac
    slow_entry ENTRY_emulate_xgetbv
    slow_entry ENTRY_emulate_xsetbv
    slow_entry ENTRY_emulate_wbinvd
    slow_entry ENTRY_emulate_clts

.macro push_entry segment
    entry ENTRY_push_\segment
    push (%esp)
    push %eax
    movzwl %ss:SELECTOR_\segment, %eax
    movl %eax, 8(%esp)
    pop %eax
    ret
.endm

    push_entry es
    push_entry cs
    push_entry ss
    push_entry ds
    push_entry fs
    push_entry gs

/* Leaves 0 in %ecx if the selector in %ecx is the register's own already. Uses %eax. */
.macro compare segment
    movzwl %ss:SELECTOR_\segment, %eax
    notl %eax
    leal 1(%ecx, %eax), %ecx
.endm

/* ES and DS: the kernel mostly loads what is there. */
.macro pop_entry segment
    entry ENTRY_pop_\segment
    push %eax
    push %ecx
    movl 12(%esp), %ecx
    compare \segment
    jecxz 1f
    pop %ecx
    pop %eax
    slow ENTRY_pop_\segment
1:  pop %ecx
    pop %eax
    pop (%esp)                      /* the return address, to where the selector was */
    ret
.endm

    pop_entry es
    pop_entry ds

    /* FS and GS: the same selector may name another base by now. Null is null, though. */
    entry ENTRY_pop_fs
    push %ecx
    movl 8(%esp), %ecx
    jecxz 1f
    pop %ecx
    slow ENTRY_pop_fs
1:  movl %ecx, %ss:SEGMENT_fs
    movl %ecx, %ss:SEGMENT_fs + 4
    movl %ecx, %ss:SEGMENT_fs + 8
    pop %ecx
    pop (%esp)
    ret

    slow_entry ENTRY_pop_gs

.macro move_entry segment register place
    entry ENTRY_mov_\segment\()_\register
    push %eax
    push %ecx
    movzwl \place, %ecx
    compare \segment
    jecxz 1f
    pop %ecx
    pop %eax
    slow ENTRY_mov_\segment\()_\register
1:  pop %ecx
    pop %eax
    ret
.endm

    move_entry es eax 4(%esp)
    move_entry es ecx (%esp)
    move_entry es edx %dx
    move_entry ds eax 4(%esp)
    move_entry ds ecx (%esp)
    move_entry ds edx %dx

.macro move_fs register place
    entry ENTRY_mov_fs_\register
    movl $ENTRY_mov_fs_\register, %ss:INDEX
    push %eax
    push %ecx
    push %edx
    movzwl \place, %ecx
    jmp load_flat_fs
.endm

    move_fs eax 8(%esp)
    move_fs ecx 4(%esp)
    move_fs edx %dx

.macro move_gs register place
    entry ENTRY_mov_gs_\register
    movl $ENTRY_mov_gs_\register, %ss:INDEX
    push %eax
    push %ecx
    push %edx
    movzwl \place, %ecx
    jmp load_known_gs
.endm

    move_gs eax 8(%esp)
    move_gs ecx 4(%esp)
    move_gs edx %dx

.macro store_entry segment
    entry ENTRY_mov_eax_\segment
    movzwl %ss:SELECTOR_\segment, %eax
    ret
.endm

    store_entry es
    store_entry cs
    store_entry ss
    store_entry ds
    store_entry fs
    store_entry gs

.macro load_entry control register
    entry ENTRY_mov_\register\()_\control
    movl %ss:CONTROL_PAGE + CPU_\control, %\register
    ret
.endm

    .irp control, cr0, cr2, cr3, cr4
    load_entry \control eax
    load_entry \control ecx
    load_entry \control edx
    load_entry \control ebx
    load_entry \control ebp
    load_entry \control esi
    load_entry \control edi
    .endr

    slow_entry ENTRY_mov_cr3_eax
    slow_entry ENTRY_mov_cr3_ecx
    slow_entry ENTRY_mov_cr3_edx
    slow_entry ENTRY_mov_cr3_ebx
    slow_entry ENTRY_mov_cr3_ebp
    slow_entry ENTRY_mov_cr3_esi
    slow_entry ENTRY_mov_cr3_edi
    slow_entry ENTRY_carried

    .org ENTRY_COUNT * ENTRY_SIZE

/* Jumps to `otherwise` unless the descriptor at (%ecx) is still the known one. Uses %ecx and the flags. */
.macro known place otherwise
    movl %ss:4(%ecx), %ecx
    cmpl %ss:\place + KNOWN_DESCRIPTOR_HIGH, %ecx
    jne \otherwise
    movl %ss:\place + KNOWN_DESCRIPTOR_ADDRESS, %ecx
    movl %ss:(%ecx), %ecx
    cmpl %ss:\place + KNOWN_DESCRIPTOR_LOW, %ecx
    jne \otherwise
.endm

/* Selector and attributes; base and limit are those of the other already (control.call_gate). */
.macro flat_segment from to
    movl %ss:\from + SEGMENT_SELECTOR, %ecx
    movl %ecx, %ss:\to + SEGMENT_SELECTOR
.endm

/* %eax, the return address and the popped word are on the stack; the flags are the guest's already. */
popf_return:
    push %ecx
    movl 8(%esp), %ecx
    movl %ecx, 12(%esp)
    movl %ss:INTERRUPT_FLAG, %ecx
    jecxz 1f
    movl %ss:PENDING, %ecx
    jecxz 1f
    pop %ecx
    pop %eax
    leal 4(%esp), %esp
    jmp service
1:  pop %ecx
    pop %eax
    leal 4(%esp), %esp
    ret

/*
 * FS with the selector in %ecx; %edx, %ecx and %eax are on the stack: the kernel loads
 * the same flat segment at each entry. If it is that one, and its descriptor
 * still reads the same, there is nothing to check.
 */
load_flat_fs:
    jecxz 4f
    movl %ss:FLAT(SELECTOR), %eax
    notl %eax
    leal 1(%ecx, %eax), %ecx
    jecxz 1f
    jmp 9f
1:  movl %ss:FLAT(ADDRESS), %eax
    movl %ss:(%eax), %ecx
    movl %ss:FLAT(NOT_LOW), %edx
    leal 1(%ecx, %edx), %ecx
    jecxz 2f
    jmp 9f
2:  movl %ss:4(%eax), %ecx
    movl %ss:FLAT(NOT_HIGH), %edx
    leal 1(%ecx, %edx), %ecx
    jecxz 3f
    jmp 9f
3:  movl $0, %ss:SEGMENT_fs
    movl $0xffffffff, %ss:SEGMENT_fs + 4
    movl %ss:FLAT(ATTRIBUTES), %edx
    movl %edx, %ss:SEGMENT_fs + 8
    load_real_fs CONTROL_PAGE + CONTROL_FLAT_SELECTOR
    pop %edx
    pop %ecx
    pop %eax
    ret
4:  movl %ecx, %ss:SEGMENT_fs       /* null */
    movl %ecx, %ss:SEGMENT_fs + 4
    movl %ecx, %ss:SEGMENT_fs + 8
    load_real_fs SEGMENT_fs + SEGMENT_SELECTOR
    pop %edx
    pop %ecx
    pop %eax
    ret
9:
long_load:
    pop %edx
    pop %ecx
    pop %eax
    jmp to_wedge

/* Jumps to long_load unless two words in memory are equal. Uses %eax and %edx, not the flags. */
.macro equal_words a b
    movl %ss:\a, %eax
    notl %eax
    movl %ss:\b, %edx
    leal 1(%edx, %eax), %edx
    xchg %ecx, %edx
    jecxz 1f
    jmp long_load
1:  xchg %ecx, %edx
.endm

/*
 * GS with the selector in %ecx; %edx, %ecx and %eax are on the stack: a switch
 * between a parent and its child loads what is there already. If GS is what
 * this selector gave the last time, and its descriptor still reads the same,
 * there is nothing to do.
 */
load_known_gs:
    movzwl %ss:SELECTOR_gs, %eax
    notl %eax
    leal 1(%ecx, %eax), %ecx
    jecxz 1f
    jmp long_load
1:  equal_words SEGMENT_gs, CONTROL_PAGE + CONTROL_GS_SEGMENT
    equal_words SEGMENT_gs + 4, CONTROL_PAGE + CONTROL_GS_SEGMENT + 4
    equal_words SEGMENT_gs + 8, CONTROL_PAGE + CONTROL_GS_SEGMENT + 8
    movl %ss:CONTROL_PAGE + CONTROL_GS + KNOWN_DESCRIPTOR_ADDRESS, %ecx
    equal_words (%ecx), CONTROL_PAGE + CONTROL_GS + KNOWN_DESCRIPTOR_LOW
    equal_words 4(%ecx), CONTROL_PAGE + CONTROL_GS + KNOWN_DESCRIPTOR_HIGH
    pop %edx
    pop %ecx
    pop %eax
    ret

/* Nothing to do but to look for interrupts. */
service:
    slow ENTRY_COUNT

