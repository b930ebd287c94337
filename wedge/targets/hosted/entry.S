/*
 * The hosted target's half of the entry code: the short ways, and the way into
 * 64-bit C. The entries themselves come first.
 */

#define ENTRY_SECTION .text
#define to_devices to_wedge

/* The real one may stay null until something uses it: that faults. */
.macro load_real_fs place
.endm

#include "run/entries.S"

.macro same_real segment
    mov %\segment, %ecx
    cmpw %cx, %ss:REAL_\segment
    jne 7f
.endm

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
    flat_segment CALL(CODE), SEGMENT_cs
    flat_segment CALL(STACK), SEGMENT_ss
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
    movl %eax, %ss:KEPT(EAX)
    movl %ecx, %ss:KEPT(ECX)
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
3:  flat_segment USER(CODE_SEGMENT), SEGMENT_cs
    flat_segment USER(DATA_SEGMENT), SEGMENT_ss
    movl $3, %ss:CPL
    movl -12(%esp), %eax
    movl %eax, %ss:RETURN_EIP
    movl %ss:KEPT(EAX), %eax
    movl %ss:KEPT(ECX), %ecx
    movl (%esp), %esp
    jmp *%ss:RETURN_EIP
9:  movl %ss:GPR(4), %esp
    popfl
    movl %ss:KEPT(EAX), %eax
    movl %ss:KEPT(ECX), %ecx
    jmp to_wedge

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
