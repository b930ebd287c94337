/* Multiboot 1 entry: flat 32-bit segments of the loader, paging off, interrupts off. */
#include "layout.h"

#define MULTIBOOT_MAGIC 0x1badb002

    .section .multiboot, "a"
    .align 4
    .long MULTIBOOT_MAGIC, 0, -MULTIBOOT_MAGIC

    .text
    .globl start
start:
    mov $boot_stack_top, %esp
    push %ebx /* multiboot information */
    push %eax /* the loader's magic */
    call main

    .globl power_off
power_off:
    cli
    hlt
    jmp power_off

/* The loadable part, an object file. */
    .section .rodata.part, "a"
    .align 16
    .globl part_object
part_object:
    .incbin "part.o"

    .bss
    .align 16
    .skip 16384
boot_stack_top:

/* The user program, linked on its own at USER_CODE, as an image. */
    .data
    .align 4096
    .globl user_image, user_image_end
user_image:
    .incbin "user.bin"
    .align 4096
user_image_end:
