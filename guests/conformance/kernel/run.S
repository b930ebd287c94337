/* Runs code with chosen registers and takes back what it left (struct regs, struct result). */
#include "layout.h"

#define EAX 0
#define ECX 4
#define EDX 8
#define EBX 12
#define ESP 16
#define EBP 20
#define ESI 24
#define EDI 28
#define EIP 32
#define EFLAGS 36
#define VECTOR 40
#define SEGMENTS 52

#define SAVE push %ebp; push %ebx; push %esi; push %edi
#define ARGUMENT 20
#define SAVE_SEGMENT(name, offset) mov %name, %ecx; mov %cx, %ss:result+SEGMENTS+offset
#define LOAD_REGISTERS \
    mov ECX(%eax), %ecx; mov EDX(%eax), %edx; mov EBX(%eax), %ebx; mov EBP(%eax), %ebp; \
    mov ESI(%eax), %esi; mov EDI(%eax), %edi

    .text
/* void run_enter(const struct regs *in): at in->eip, which must end in run_done or a trap. */
    .globl run_enter
run_enter:
    SAVE
    mov ARGUMENT(%esp), %eax
    mov %esp, run_stack
    mov EIP(%eax), %ecx
    mov %ecx, run_target
    push EFLAGS(%eax)
    popf
    LOAD_REGISTERS
    mov ESP(%eax), %esp
    mov EAX(%eax), %eax
    jmp *run_target

/* void run_user_enter(const struct regs *in, u32 fs, u32 gs): the same in user mode. */
    .globl run_user_enter
run_user_enter:
    SAVE
    mov ARGUMENT(%esp), %eax
    mov ARGUMENT+4(%esp), %fs
    mov ARGUMENT+8(%esp), %gs
    mov %esp, run_stack
    pushl $USER_DS
    pushl ESP(%eax)
    pushl EFLAGS(%eax)
    pushl $USER_CS
    pushl EIP(%eax)
    mov $USER_DS, %ecx
    mov %ecx, %es
    LOAD_REGISTERS
    pushl EAX(%eax)
    mov $USER_DS, %eax
    mov %eax, %ds
    pop %eax
    iret

/* Where kernel code under test goes on: not one flag may change before it is saved, and DS may be anything. */
    .globl run_done
run_done:
    mov %eax, %ss:result+EAX
    mov %ecx, %ss:result+ECX
    mov %edx, %ss:result+EDX
    mov %ebx, %ss:result+EBX
    mov %esp, %ss:result+ESP
    mov %ebp, %ss:result+EBP
    mov %esi, %ss:result+ESI
    mov %edi, %ss:result+EDI
    mov %ss:run_stack, %esp
    pushf
    popl %ss:result+EFLAGS
    SAVE_SEGMENT(cs, 0)
    SAVE_SEGMENT(ss, 2)
    SAVE_SEGMENT(ds, 4)
    SAVE_SEGMENT(es, 6)
    SAVE_SEGMENT(fs, 8)
    SAVE_SEGMENT(gs, 10)
    movl $-1, %ss:result+VECTOR

/* Leaves a run from wherever it was. */
    .globl run_leave
run_leave:
    ljmp $KERNEL_CS, $1f
1:
    mov $KERNEL_DS, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov run_stack, %esp
    push $2
    popf
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    pop %edi
    pop %esi
    pop %ebx
    pop %ebp
    ret

/* void call_test(void (*test)(void)): comes back through jump_to_runner if the test is given up. */
    .globl call_test
call_test:
    SAVE
    mov %esp, runner_stack
    call *ARGUMENT(%esp)
    .globl jump_to_runner
jump_to_runner:
    mov $KERNEL_DS, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov runner_stack, %esp
    push $2
    popf
    pop %edi
    pop %esi
    pop %ebx
    pop %ebp
    ret

    .bss
    .align 4
run_stack: .long 0
run_target: .long 0
runner_stack: .long 0
