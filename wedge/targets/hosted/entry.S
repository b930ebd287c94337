/*
 * The entries: where burned sites call to. Linked at ENTRY_BASE, one every
 * ENTRY_SIZE bytes, position fixed by src/substitution/hosted-entries.ts.
 *
 * They run as 32-bit guest code on the guest's stack, with the site's end as
 * return address, and preserve every register and flag the original
 * instruction would. `jecxz` tests and `lea` and `not` compute, because they
 * leave the flags alone. Memory is reached through SS: the guest's DS may be
 * null. None of them looks for interrupts except where the
 * instruction may set IF: a signal that finds one in progress lets it finish
 * by single-stepping, and a page fault unwinds it (signals.c): so whatever an
 * entry pushes it pushes first, before it changes a register.
 */

#include "generated/hosted-entries.h"

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
#define INDEX (CONTROL_PAGE + CONTROL_ENTRY)

    .set SEGMENT_cs, SELECTOR(1) - SEGMENT_SELECTOR
    .set SEGMENT_ss, SELECTOR(2) - SEGMENT_SELECTOR
    .set SEGMENT_fs, SELECTOR(4) - SEGMENT_SELECTOR
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

    .text
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
    slow_entry ENTRY_in8
    slow_entry ENTRY_in16
    slow_entry ENTRY_in32
    slow_entry ENTRY_out8
    slow_entry ENTRY_out16
    slow_entry ENTRY_out32
    entry ENTRY_entry_int80
    jmp call_from_user
    slow_entry ENTRY_entry_sysenter
    slow_entry ENTRY_emulate_rdtsc
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
1:  movl 8(%esp), %ecx
    movl %ecx, 12(%esp)
    pop %ecx
    pop %eax
    leal 4(%esp), %esp
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
    movl 4(%esp), %ecx
    movl %ecx, 8(%esp)
    pop %ecx
    leal 4(%esp), %esp
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
    slow_entry ENTRY_mov_gs_eax
    slow_entry ENTRY_mov_gs_ecx
    slow_entry ENTRY_mov_gs_edx

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

.macro same_real segment
    mov %\segment, %ecx
    cmpw %cx, %ss:REAL_\segment
    jne 7f
.endm

.macro copy_segment from to
    movl %ss:\from, %ecx
    movl %ecx, %ss:\to
    movl %ss:\from + 4, %ecx
    movl %ecx, %ss:\to + 4
    movl %ss:\from + 8, %ecx
    movl %ecx, %ss:\to + 8
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
    pop %edx
    pop %ecx
    pop %eax
    ret
9:  pop %edx
    pop %ecx
    pop %eax
    jmp to_wedge

/*
 * A system call of user code: interrupt 80, the short way. Everything the
 * hardware would look at must be as it was when C went the long way the last
 * time; what is compared is the guest's own memory. Until the flags are on the
 * kernel's stack nothing may change them, and nothing is pushed on the user's.
 */
call_from_user:
    movl %eax, %ss:GPR(0)
    movl %ecx, %ss:GPR(1)
    movl %edx, %ss:GPR(2)
    movl %esp, %ss:GPR(4)
    movl %ss:CALL(GATE), %ecx
    jecxz 1f
    jmp 2f
1:  jmp 8f
2:  movl %ss:(%esp), %edx           /* where the user goes on */
    movl %ss:CALL(TSS), %eax
    movl %ss:(%eax), %esp
    movzwl %ss:SELECTOR_ss, %ecx
    push %ecx
    movl %ss:GPR(4), %ecx
    leal 4(%ecx), %ecx
    push %ecx
    pushfl
    testl $0x44100, (%esp)          /* AC, NT, TF */
    jnz 7f
    cmpl $0, %ss:SYSTEM_FLAGS
    jne 7f
    same_real ds
    same_real es
    same_real fs
    same_real gs
    movl %ss:CALL(GATE), %ecx
    known CALL(GATE), 7f
    movzwl %ss:4(%eax), %ecx        /* SS0 */
    cmpw %cx, %ss:CALL(STACK) + SEGMENT_SELECTOR
    jne 7f
    movl %ss:INTERRUPT_FLAG, %ecx
    andl $~0x200, (%esp)
    orl %ecx, (%esp)
    movzwl %ss:SELECTOR_cs, %ecx
    push %ecx
    push %edx
    copy_segment CALL(CODE), SEGMENT_cs
    copy_segment CALL(STACK), SEGMENT_ss
    movl $0, %ss:CPL
    movl $0, %ss:INTERRUPT_FLAG
    movl %ss:GPR(0), %eax
    movl %ss:GPR(1), %ecx
    movl %ss:GPR(2), %edx
    jmp *%ss:CALL(OFFSET)
7:  popfl
8:  movl %ss:GPR(4), %esp
    movl %ss:GPR(0), %eax
    movl %ss:GPR(1), %ecx
    movl %ss:GPR(2), %edx
    slow ENTRY_entry_int80

/*
 * The kernel's iret to user code, the short way, under the same rule. The
 * kernel's flags are on the stack, for the long way. The frame's are loaded before IF is set
 * and looked at, so that a signal's single-stepping is not lost with them.
 */
return_to_user:
    movl %eax, %ss:GPR(0)
    movl %ecx, %ss:GPR(1)
    movl %esp, %ss:GPR(4)
    cmpl $0, 24(%esp)               /* the frame's end: what follows does not fault on it */
    movl %ss:USER(CODE), %ecx
    testl %ecx, %ecx
    jz 9f
    movzwl %ss:USER(CODE_SEGMENT) + SEGMENT_SELECTOR, %eax
    cmpl 12(%esp), %eax
    jne 9f
    movzwl %ss:USER(DATA_SEGMENT) + SEGMENT_SELECTOR, %eax
    cmpl 24(%esp), %eax
    jne 9f
    cmpw %ax, %ss:SELECTOR_ds
    jne 9f
    cmpw %ax, %ss:SELECTOR_es
    jne 9f
    cmpw $0, %ss:SELECTOR_fs
    jne 9f
    cmpw $0, %ss:REAL_fs
    jne 9f
    movl 16(%esp), %eax
    andl $0x67300, %eax             /* of AC, VM, NT, IOPL, IF and TF only IF */
    cmpl $0x200, %eax
    jne 9f
    movl %ss:SYSTEM_FLAGS, %eax
    orl %ss:RETURN_WORK, %eax
    jne 9f
    known USER(CODE), 9f
    movl %ss:USER(DATA), %ecx
    known USER(DATA), 9f
    movzwl %ss:SELECTOR_gs, %eax
    cmpl %ss:USER(TLS_SELECTOR), %eax
    jne 9f
    movl %ss:USER(TLS), %ecx
    jecxz 1f
    cmpw $0x2b, %ss:REAL_gs
    jne 9f
    known USER(TLS), 9f
    jmp 2f
1:  cmpw $0, %ss:REAL_gs
    jne 9f
2:  testl $0x4000, (%esp)           /* NT: a task return */
    jnz 9f
    leal 16(%esp), %esp
    popfl
    movl $0x200, %ss:INTERRUPT_FLAG
    movl %ss:PENDING, %ecx
    jecxz 3f
    jmp 9f
3:  copy_segment USER(CODE_SEGMENT), SEGMENT_cs
    copy_segment USER(DATA_SEGMENT), SEGMENT_ss
    movl $3, %ss:CPL
    movl -12(%esp), %eax
    movl %eax, %ss:RETURN_EIP
    movl %ss:GPR(0), %eax
    movl %ss:GPR(1), %ecx
    movl (%esp), %esp
    jmp *%ss:RETURN_EIP
9:  movl %ss:GPR(4), %esp
    popfl
    movl %ss:GPR(0), %eax
    movl %ss:GPR(1), %ecx
    jmp to_wedge

/* Nothing to do but to look for interrupts. */
service:
    slow ENTRY_COUNT

/*
 * Into C. Uses nothing of the guest's stack; flags are still the guest's when
 * the 64-bit side saves them.
 */
to_wedge:
    movl %eax, %ss:GPR(0)
    movl %ecx, %ss:GPR(1)
    movl %edx, %ss:GPR(2)
    movl %ebx, %ss:GPR(3)
    movl %esp, %ss:GPR(4)
    movl %ebp, %ss:GPR(5)
    movl %esi, %ss:GPR(6)
    movl %edi, %ss:GPR(7)
    ljmp $0x33, $1f                 /* the host's 64-bit user code segment */
    .code64
1:  movl $CONTROL_PAGE + CONTROL_WEDGE_STACK, %esp
    movq (%rsp), %rsp
    movl $CONTROL_PAGE + CONTROL_WEDGE_ENTER, %eax
    jmp *(%rax)
