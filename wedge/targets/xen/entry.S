/*
 * The Xen target's half of the entry code. It runs in ring 2 as guest code
 * does; ring 1 is one `int $0x80` away. The entries themselves come first.
 */

#define ENTRY_SECTION .section .entries, "ax"

#define GUEST_DATA 0x100a           /* segments.c: SLOT_DATA, ring 2 */

#include "generated/run-asm.h"

/* The descriptor is in Xen's table as it is in the guest's. */
.macro load_real_fs place
    movw %ss:\place, %fs
.endm

#include "run/entries.S"

/*
 * A system call of user code: interrupt 80, which switch.S has brought to
 * ring 2 with EIP in EAX, whose own value is kept, and all else as user code
 * had it. Everything the hardware would look at must be as it was when C
 * went the long way the last time; what is compared is the guest's own memory.
 * An event may have made it step here: that is not user code's TF.
 */
    .globl call_from_user
call_from_user:
    movl %ecx, %ss:KEPT(ECX)
    movl %eax, %ss:USER(EIP)
    movl %esp, %ss:USER(ESP)
    movl %ss:CALL(TSS), %eax
    movl %ss:(%eax), %esp
    movzwl %ss:SELECTOR_ss, %ecx
    push %ecx
    push %ss:USER(ESP)
    pushfl
    andl $~0x100, (%esp)
    movl %ss:CALL(GATE), %ecx
    known CALL(GATE), 7f
    movzwl %ss:4(%eax), %ecx        /* SS0 */
    cmpw %cx, %ss:CALL(STACK) + SEGMENT_SELECTOR
    jne 7f
    cmpl $0x200, %ss:INTERRUPT_FLAG
    jne 7f
    movzwl %ss:SELECTOR_cs, %eax
    push %eax
    push %ss:USER(EIP)
    push 8(%esp)
    popfl
    flat_segment CALL(CODE), SEGMENT_cs
    flat_segment CALL(STACK), SEGMENT_ss
    movl $0, %ss:CPL
    movl $0, %ss:INTERRUPT_FLAG
    movl %ss:KEPT(EAX), %eax
    movl %ss:KEPT(ECX), %ecx
    jmp *%ss:CALL(OFFSET)
7:  pop %ss:USER(FLAGS)
    movl %ss:KEPT(EAX), %eax
    movl %ss:KEPT(ECX), %ecx
    slow ENTRY_entry_int80

/* Jumps to 9 unless the real segment register holds the virtual selector. Uses %ecx and the flags. */
.macro native segment
    mov %\segment, %ecx
    cmpw %cx, %ss:SELECTOR_\segment
    jne 9f
.endm

/*
 * The kernel's iret to user code, the short way, under the same rule: its own
 * frame serves. The kernel's flags are on the stack, for the long way.
 */
return_to_user:
    movl %eax, %ss:KEPT(EAX)
    movl %ecx, %ss:KEPT(ECX)
    movl %esp, %ss:KEPT(ESP)
    cmpl $0, 24(%esp)               /* the frame's end: what follows does not fault on it */
    cmpl $0, %ss:USER(CODE)
    je 9f
    movzwl %ss:USER(CODE_SEGMENT) + SEGMENT_SELECTOR, %eax
    cmpl 12(%esp), %eax
    jne 9f
    movzwl %ss:USER(DATA_SEGMENT) + SEGMENT_SELECTOR, %eax
    cmpl 24(%esp), %eax
    jne 9f
    native ds
    native es
    native gs
    cmpw $0, %ss:SELECTOR_fs        /* a return to an outer ring clears what that ring may not use */
    jne 9f
    movl 16(%esp), %eax
    andl $0x67300, %eax             /* of AC, VM, NT, IOPL, IF and TF only IF */
    cmpl $0x200, %eax
    jne 9f
    movl %ss:SYSTEM_FLAGS, %eax
    orl %ss:RETURN_WORK, %eax
    orl %ss:INTERRUPT_FLAG, %eax
    jne 9f
    movl %ss:USER(CODE), %ecx
    known USER(CODE), 9f
    movl %ss:USER(DATA), %ecx
    known USER(DATA), 9f
    .set place, CONTROL_PAGE + CONTROL_WATCHED
    .rept WATCHED
    movl %ss:place, %ecx
    testl %ecx, %ecx
    jz 2f
    known place, 9f
    .set place, place + KNOWN_DESCRIPTOR_SIZE
    .endr
2:  testl $0x4000, (%esp)           /* NT: a task return */
    jnz 9f
    movl $0x200, %ss:INTERRUPT_FLAG
    cmpl $0, %ss:PENDING
    jne 8f
    leal 8(%esp), %esp
    flat_segment USER(CODE_SEGMENT), SEGMENT_cs
    flat_segment USER(DATA_SEGMENT), SEGMENT_ss
    movl $3, %ss:CPL
    movl %ss:KEPT(EAX), %eax
    movl %ss:KEPT(ECX), %ecx
    iret
8:  movl $0, %ss:INTERRUPT_FLAG
9:  movl %ss:KEPT(ESP), %esp
    popfl
    movl %ss:KEPT(EAX), %eax
    movl %ss:KEPT(ECX), %ecx
    jmp to_wedge

/*
 * Port I/O: the interrupt controllers are C in this ring, on a stack of its
 * own; what needs Xen goes the long way. Nothing is pushed on the guest's stack.
 * The popfl ends the stepping of an event that came before it: so that is looked for behind it.
 */
to_devices:
    movl %esp, %ss:KEPT(ESP)
    leal inner_stack, %esp
    pushfl
    push %ecx
    push %edx
    push %eax
    push %ds
    push %es
    movl $GUEST_DATA, %eax
    movl %eax, %ds
    movl %eax, %es
    cld
    leal 8(%esp), %eax
    push %eax
    call device_access
    addl $4, %esp
    testb %al, %al
    pop %es
    pop %ds
    pop %eax
    pop %edx
    pop %ecx
    jz 3f
    popfl
    movl %ss:KEPT(ESP), %esp
    movl %ecx, %ss:KEPT(ECX)
    movl %ss:INTERRUPT_FLAG, %ecx
    jecxz 1f
    movl %ss:PENDING, %ecx
    jecxz 1f
    movl %ss:KEPT(ECX), %ecx
    jmp service
1:  movl %ss:KEPT(ECX), %ecx
    ret
3:  popfl                           /* not for here */
    movl %ss:KEPT(ESP), %esp

    .globl to_wedge_end
to_wedge:
    int $0x80
to_wedge_end:

    .section .pointers, "a"
    .set pointer, 0
    .rept ENTRY_COUNT
    .long ENTRY_BASE + pointer * ENTRY_SIZE
    .set pointer, pointer + 1
    .endr

    .section .bss
    .balign 16
    .skip 8192
inner_stack:

    .section .note.GNU-stack, "", @progbits
