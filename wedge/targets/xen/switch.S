/*
 * Where Xen's traps and events arrive in ring 1, and the way back out.
 *
 * Everything from an outer ring comes in on an empty stack, with events masked.
 * Events are let in again only in the last instructions of the way out; one that comes there starts it over, since
 * all of the guest's registers are in `cpu`.
 */

#include "generated/run-asm.h"

#define GPR(n) (CONTROL_PAGE + CPU_GPR + n * 4)
#define REAL(register) (CONTROL_PAGE + CONTROL_REAL_SELECTORS + register * 2)
#define XEN_DS 0xe021               /* FLAT_RING1_DS */
#define PENDING_BYTE shared_info    /* vcpu_info[0].evtchn_upcall_pending */
#define MASK_BYTE shared_info + 1   /* vcpu_info[0].evtchn_upcall_mask */
#define VECTOR_UPCALL 0x100
#define VECTOR_CALL 0x80
#define GUEST_CODE 0x1002           /* segments.c: SLOT_CODE and SLOT_DATA, ring 2 */
#define GUEST_DATA 0x100a
#define SELECTOR(register) (CONTROL_PAGE + CPU_SEGMENTS + register * SEGMENT_SIZE + SEGMENT_SELECTOR)
#define SYSTEM_FLAGS (CONTROL_PAGE + CPU_SYSTEM_FLAGS)
#define CALL_GATE (CONTROL_PAGE + CONTROL_CALL_GATE)
#define KEPT_EAX (CONTROL_PAGE + CONTROL_KEPT_EAX)

    .text
    .globl start, trap_stubs, upcall, failsafe, wedge_leave, stack_top

/* From Xen's domain builder; ESI: start_info. */
start:
    cld
    movl $stack_top, %esp
    xorl %ebp, %ebp
    pushl %esi
    call xen_main
    ud2

/* One every 16 bytes, vectors 0 to 31, then 80. */
    .balign 16
trap_stubs:
    .set vector, 0
    .rept 32
    .balign 16
    .if vector == 8 || (vector >= 10 && vector <= 14) || vector == 17
    .else
    push $0
    .endif
    push $vector
    jmp trap_common
    .set vector, vector + 1
    .endr
    .balign 16
    push $0
    pushl $VECTOR_CALL

/*
 * A system call of user code, the short way: by call_from_user in ring 2, if
 * the selectors are those the virtual CPU knows and the flags are plain. EIP
 * goes there in EAX, all else is in its register.
 */
.macro same_selector place register
    mov \place, %eax
    cmpw %ax, %ss:SELECTOR(\register)
    jne 1f
.endm
    movl %eax, %ss:KEPT_EAX
    same_selector %ss:12(%esp), 1   /* CS, which says that it comes from ring 3 */
    cmpl $0, %ss:CALL_GATE
    je 1f
    testl $0x44100, %ss:16(%esp)    /* AC, NT, TF */
    jnz 1f
    cmpl $0, %ss:SYSTEM_FLAGS
    jne 1f
    same_selector %ss:24(%esp), 2
    same_selector %ds, 3
    same_selector %es, 0
    same_selector %fs, 4
    same_selector %gs, 5
    addl $8, %esp
    movl (%esp), %eax
    movl $call_from_user, (%esp)
    movl $GUEST_CODE, 4(%esp)
    movl $GUEST_DATA, 16(%esp)
    movb $0, %ss:MASK_BYTE
call_open:
    cmpb $0, %ss:PENDING_BYTE
    jne call_held
    iret
call_again:                         /* an event came from call_open to call_held */
    addl $20, %esp
call_held:                          /* as if it had come at call_from_user */
    movb $1, %ss:MASK_BYTE
    push $0
    pushl $VECTOR_UPCALL
    jmp trap_common
1:  movl %ss:KEPT_EAX, %eax
    jmp trap_common

upcall:
    push $0
    pushl $VECTOR_UPCALL

trap_common:
    testb $2, %ss:12(%esp)          /* CS: from ring 2 or 3? */
    jz in_wedge
    movl %eax, %ss:GPR(0)
    movl %ecx, %ss:GPR(1)
    movl %edx, %ss:GPR(2)
    movl %ebx, %ss:GPR(3)
    movl %ebp, %ss:GPR(5)
    movl %esi, %ss:GPR(6)
    movl %edi, %ss:GPR(7)
    movw %es, %ss:REAL(0)
    movw %ds, %ss:REAL(3)
    movw %fs, %ss:REAL(4)
    movw %gs, %ss:REAL(5)
registers_saved:
    movl $XEN_DS, %eax
    movl %eax, %ds
    movl %eax, %es
    cld
again:
    movl %esp, %eax
    pushl %eax
    call xen_trap                   /* struct frame * */
    addl $4, %esp
    testb %al, %al
    jnz wedge_leave

/* Back to where the trap came from, as it was but for the frame. */
    movl %esp, resume_frame
    addl $8, %esp
    movb $0, MASK_BYTE
    cmpb $0, PENDING_BYTE
    jne 9f
    jmp load_registers
9:  movb $1, MASK_BYTE
resume_again:
    movl resume_frame, %esp
    movl $VECTOR_UPCALL, (%esp)
    jmp again

/* A second trap in ring 1: an event in the last instructions, or a defect. */
in_wedge:
    cmpl $VECTOR_UPCALL, %ss:(%esp)
    jne 8f
    cmpl $call_open, %ss:8(%esp)
    jb 2f
    cmpl $call_held, %ss:8(%esp)
    jbe call_again
2:
    movl $XEN_DS, %eax
    movl %eax, %ds
    movl %eax, %es
    cld
    cmpl $0, resume_frame
    jne resume_again
    movl $stack_top, %esp
    call events_take
    jmp wedge_leave
8:  movl $XEN_DS, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %esp, %eax
    pushl %eax
    call xen_fault_in_wedge
    ud2

failsafe:
    movl $XEN_DS, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %esp, %eax
    pushl %eax
    call xen_failsafe
    ud2

wedge_leave:
    movl $stack_top, %esp
    movl $0, resume_frame
    call xen_leave_prepare          /* the real flags */
    movzwl REAL(2), %ecx
    pushl %ecx
    pushl GPR(4)
    pushl %eax
    movzwl REAL(1), %ecx
    pushl %ecx
    pushl CONTROL_PAGE + CPU_EIP
    movb $0, MASK_BYTE
    cmpb $0, PENDING_BYTE
    je load_registers
    movb $1, MASK_BYTE
    call events_take
    jmp wedge_leave

load_registers:
    movw REAL(0), %es
    movw REAL(4), %fs
    movw REAL(5), %gs
    movl GPR(0), %eax
    movl GPR(1), %ecx
    movl GPR(2), %edx
    movl GPR(3), %ebx
    movl GPR(5), %ebp
    movl GPR(6), %esi
    movl GPR(7), %edi
    movw REAL(3), %ds
    iret

    .section .control, "aw"
    .globl control, cpu
control:
cpu:
    .skip 4096

    .section .hypercalls, "ax"
    .globl hypercall_page
hypercall_page:
    .skip 4096

    .bss
    .balign 4096
    .globl shared_info
shared_info:
    .skip 4096
resume_frame:
    .skip 4
    .balign 4096
    .skip 32768
stack_top:

    .section .note.GNU-stack, "", @progbits
