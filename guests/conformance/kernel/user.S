/*
 * The user program: the list of sites.h again, for user mode. It is linked on
 * its own at USER_CODE and never annotated, as user code is not.
 */
#include "layout.h"

    .text
    .globl user_start
user_start:
#define CODE(name, inputs, ...)                                                                    \
    .globl user_##name, user_##name##_end;                                                         \
    user_##name: __VA_ARGS__;                                                                      \
    user_##name##_end: int $GATE_SYSCALL;
#include "sites.h"
