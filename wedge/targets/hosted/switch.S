/*
 * Where the two worlds meet on the 64-bit side. The 32-bit half is entry.S.
 */

#include "generated/run-asm.h"

    .text
    .globl _start, wedge_enter_switch, wedge_leave, leave_restart, leave_begin, leave_end, signal_return

_start:
    mov %rsp, %rdi                  /* argc, argv, environment, auxiliary vector */
    lea stack_top(%rip), %rsp
    xor %ebp, %ebp
    call hosted_main
    ud2

/* From the entries, on the wedge's stack; flags are the guest's. */
wedge_enter_switch:
    pushfq
    pop %rax
    mov %eax, %edi                  /* wedge_enter's argument */
    test $0x44000, %eax             /* the guest's NT and AC: iretq and C would fault on them */
    jz 1f
    push $2
    popfq
1:  cld
    call wedge_enter

/*
 * Back to guest code. A signal before leave_begin is seen there; the handler of
 * one in [leave_begin, leave_end) goes back to leave_restart. Nothing is lost, all the guest's registers are still in `cpu`.
 */
wedge_leave:
leave_restart:
    lea stack_top(%rip), %rsp
    call wedge_leave_prepare
    mov %eax, leave_flags(%rip)
leave_begin:
    cmpl $0, attention(%rip)
    jne leave_restart
    push $0x2b
    mov cpu + CPU_GPR + 16(%rip), %eax
    push %rax
    mov leave_flags(%rip), %eax
    push %rax
    push $0x23
    mov cpu + CPU_EIP(%rip), %eax
    push %rax
    mov cpu + CPU_GPR + 0(%rip), %eax
    mov cpu + CPU_GPR + 4(%rip), %ecx
    mov cpu + CPU_GPR + 8(%rip), %edx
    mov cpu + CPU_GPR + 12(%rip), %ebx
    mov cpu + CPU_GPR + 20(%rip), %ebp
    mov cpu + CPU_GPR + 24(%rip), %esi
    mov cpu + CPU_GPR + 28(%rip), %edi
    iretq
leave_end:

/*
 * rt_sigreturn restores most flags from the frame, but leaves NT and ID as they
 * are: so they are loaded here. The frame is on the stack, EFLAGS 176 bytes in
 * (struct ucontext).
 */
signal_return:
    pushq 176(%rsp)
    andl $0x204002, (%rsp)
    popfq
    mov $15, %eax                   /* rt_sigreturn */
    syscall
    ud2

    .section .rodata
    .globl entry_code, entry_code_end
    .balign 16
entry_code:
    .incbin "entry.bin"
entry_code_end:

/* Two pages that have a second address below 4 GiB: CONTROL_PAGE and LOW_CODE. */
    .section .control, "aw", @nobits
    .balign 4096
    .globl control, cpu, low_code
control:
cpu:
    .skip 4096
low_code:
    .skip 4096

    .bss
    .balign 16
    .globl leave_flags, stack_top
leave_flags:
    .skip 4
    .balign 4096
    .skip 65536
stack_top:

    .section .note.GNU-stack, "", @progbits
