/* A paravirtualized 32-bit kernel as small as it gets: Xen's notes, and a stack. */
#define __ASSEMBLY__ 1
#include <xen/elfnote.h>

.macro note type, value:vararg
    .pushsection .note.Xen, "a", @note
    .balign 4
    .long 4, 3f - 2f, \type
    .asciz "Xen"
2:  \value
3:  .balign 4
    .popsection
.endm

    note XEN_ELFNOTE_GUEST_OS, .asciz "words"
    note XEN_ELFNOTE_XEN_VERSION, .asciz "xen-3.0"
    note XEN_ELFNOTE_LOADER, .asciz "generic"
    note XEN_ELFNOTE_PAE_MODE, .asciz "yes"
    note XEN_ELFNOTE_VIRT_BASE, .long VIRT_BASE
    note XEN_ELFNOTE_PADDR_OFFSET, .long 0
    note XEN_ELFNOTE_ENTRY, .long start
    note XEN_ELFNOTE_HYPERCALL_PAGE, .long hypercalls
    note XEN_ELFNOTE_SUPPORTED_FEATURES, .long 1 << 11

    .text
    .globl start
start:
    cld
    mov $stack_end, %esp
    push %esi
    call guest_main

    .bss
    .balign 16
    .skip 8192
stack_end:

    .section .hypercalls, "ax"
    .balign 4096
    .globl hypercalls
hypercalls:
    .skip 4096

    .section .note.GNU-stack, "", @progbits
