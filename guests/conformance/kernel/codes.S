/* The list of sites.h as kernel code. */
#include "layout.h"

    .text
#define M \
    .pushsection .rodata.marks, "a"; \
    .long 9f; \
    .popsection; \
    9:
#define CODE(name, inputs, ...)                                                                    \
    .globl site_##name, site_##name##_end;                                                         \
    site_##name: __VA_ARGS__;                                                                      \
    site_##name##_end: jmp run_done;
#include "sites.h"

/* Where the call gate leads. */
    .globl gate_target
gate_target:
    lret
