/*
 * The user program: the list of sites.h again, for user mode. It is linked on
 * its own at USER_CODE and never annotated, as user code is not.
 */
#include "layout.h"

    .text
    .globl user_start, user_marks
    .pushsection .text.marks, "ax"
user_marks:
    .popsection
user_start:
/* The marks stay in the image, behind the code. */
#define M \
    .pushsection .text.marks, "ax"; \
    .long 9f; \
    .popsection; \
    9:
#define CODE(name, inputs, ...)                                                                    \
    .globl user_##name, user_##name##_end;                                                         \
    user_##name: __VA_ARGS__;                                                                      \
    user_##name##_end: int $GATE_SYSCALL;
#include "sites.h"

    .pushsection .text.marks, "ax"
    .globl user_marks_end
user_marks_end:
    .popsection
