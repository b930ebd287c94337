/* Ways into the kernel: one stub a vector, 16 bytes apart, all ending in trap(). */
#include "layout.h"

    .text
    .align 16
    .globl trap_stubs
trap_stubs:
    .set vector, 0
    .rept 256
    .align 16
    .if vector != 8 && vector != 17 && (vector < 10 || vector > 14)
    push $0 /* the processor pushes no error code */
    .endif
    push $vector
    jmp trap_common
    .set vector, vector + 1
    .endr

trap_common:
    pusha
    push %ds
    push %es
    push %fs
    push %gs
    cld
    mov $KERNEL_DS, %eax
    mov %eax, %ds
    mov %eax, %es
    push %esp
    call trap
    add $4, %esp
    .globl trap_return
trap_return:
    pop %gs
    pop %fs
    pop %es
    pop %ds
    popa
    add $8, %esp
    iret
