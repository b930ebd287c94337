/*
 * Accesses to registers in memory, one form each. The rule file (domains.json)
 * says that what this file's inline assembly accesses is a device.
 */
#ifndef CONFORMANCE_REGISTERS_H
#define CONFORMANCE_REGISTERS_H

#include "guest.h"

/* What goes in and what comes out; memory at `at`, as many bytes as FORMS says. */
struct access {
    u32 eax, edx, flags;
};

typedef void form_t(struct access *access, void *at);

/* Arithmetic flags are those of `access` before, and go there afterwards. */
#define FORM(name, statement)                                                                      \
    static void form_##name(struct access *access, void *at) {                                     \
        asm volatile("push %[flags]\n\tpopf\n\t" statement "\n\tpushf\n\tpop %[flags]"               \
                     : "+a"(access->eax), "+d"(access->edx), [flags] "+r"(access->flags)            \
                     : "S"(at), "D"((u32)at + 32)                                                   \
                     : "cc", "memory");                                                             \
    }

#define FORMS                                                                                                        \
    X(movb_load, 1, "movb (%%esi), %%dl") X(movw_load, 2, "movw (%%esi), %%dx")                                      \
    X(movl_load, 4, "movl (%%esi), %%edx") X(movl_load_far, 4, "movl -32(%%edi), %%eax")                             \
    X(movzbl, 1, "movzbl (%%esi), %%edx") X(movsbl, 1, "movsbl (%%esi), %%edx")                                      \
    X(movzwl, 2, "movzwl (%%esi), %%edx") X(movswl, 2, "movswl (%%esi), %%edx")                                      \
    X(movb_store, 1, "movb %%dh, (%%esi)") X(movw_store, 2, "movw %%dx, (%%esi)")                                    \
    X(movl_store, 4, "movl %%edx, (%%esi)") X(movb_value, 1, "movb $0x5a, (%%esi)")                                  \
    X(movw_value, 2, "movw $0x1a5, (%%esi)") X(movl_value, 4, "movl $0x12345678, (%%esi)")                           \
    X(addb, 1, "addb %%al, (%%esi)") X(addl, 4, "addl %%eax, (%%esi)") X(addl_from, 4, "addl (%%esi), %%eax")        \
    X(addl_value, 4, "addl $-3, (%%esi)") X(adcw, 2, "adcw %%ax, (%%esi)") X(adcl, 4, "adcl %%eax, (%%esi)")         \
    X(sbbb, 1, "sbbb %%al, (%%esi)") X(sbbl, 4, "sbbl (%%esi), %%eax") X(subl, 4, "subl %%eax, (%%esi)")             \
    X(andl, 4, "andl %%eax, (%%esi)") X(andb_value, 1, "andb $0xfd, (%%esi)") X(orw, 2, "orw %%ax, (%%esi)")         \
    X(orl_lock, 4, "lock; orl $0x80000000, (%%esi)") X(xorl, 4, "xorl %%edx, (%%esi)")                               \
    X(cmpl, 4, "cmpl %%eax, (%%esi)") X(cmpb_value, 1, "cmpb $0x7f, (%%esi)") X(cmpw_from, 2, "cmpw (%%esi), %%ax")  \
    X(testl, 4, "testl %%eax, (%%esi)") X(testb_value, 1, "testb $0x81, (%%esi)")                                    \
    X(incb, 1, "incb (%%esi)") X(incl, 4, "incl (%%esi)") X(decw, 2, "decw (%%esi)") X(negl, 4, "negl (%%esi)")      \
    X(notl, 4, "notl (%%esi)") X(xchgb, 1, "xchgb %%dl, (%%esi)") X(xchgl, 4, "xchgl %%eax, (%%esi)")                \
    X(btl, 4, "btl $7, (%%esi)") X(btsl, 4, "btsl $3, (%%esi)") X(btrl, 4, "btrl $31, (%%esi)")                      \
    X(btcw, 2, "btcw $9, (%%esi)") X(xaddl, 4, "lock xaddl %%edx, (%%esi)")                                          \
    X(cmpxchgl, 4, "lock cmpxchgl %%edx, (%%esi)") X(cmpxchgb, 1, "cmpxchgb %%dl, (%%esi)")

/* One line, so that they are all where the rule file says. */
#define X(name, size, statement) FORM(name, statement)
FORMS
#undef X

#endif
