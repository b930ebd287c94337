/*
 * The Xen target's half of the entry code. It runs in ring 2 as guest code
 * does; ring 1 is one `int $0x80` away, which Xen delivers without looking
 * at it. The entries themselves come first.
 */

#define ENTRY_SECTION .section .entries, "ax"
#include "run/entries.S"

/* No short ways yet: the registers as they were, and to C. */
load_flat_fs:
    pop %edx
    pop %ecx
    pop %eax
    jmp to_wedge

return_to_user:
    popfl
    jmp to_wedge

/* Not burned here: user code's own int $0x80 is the shortest way. */
call_from_user:
    ud2

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

    .section .note.GNU-stack, "", @progbits
