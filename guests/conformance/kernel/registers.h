/*
 * Accesses to registers in memory, one form each. The rule file (domains.json)
 * says that what this file's inline assembly accesses is a device.
 */
#ifndef CONFORMANCE_REGISTERS_H
#define CONFORMANCE_REGISTERS_H

#include "guest.h"

/* What goes in and what comes out; memory at `at`. */
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

#define FORMS                                                                                       \
    X(movb_load, "movb (%%esi), %%dl") X(movw_load, "movw (%%esi), %%dx")                           \
    X(movl_load, "movl (%%esi), %%edx") X(movl_load_far, "movl -32(%%edi), %%eax")                   \
    X(movzbl, "movzbl (%%esi), %%edx") X(movsbl, "movsbl (%%esi), %%edx")                           \
    X(movzwl, "movzwl (%%esi), %%edx") X(movswl, "movswl (%%esi), %%edx")                           \
    X(movb_store, "movb %%dh, (%%esi)") X(movw_store, "movw %%dx, (%%esi)")                         \
    X(movl_store, "movl %%edx, (%%esi)") X(movb_value, "movb $0x5a, (%%esi)")                       \
    X(movw_value, "movw $0x5aa5, (%%esi)") X(movl_value, "movl $0x12345678, (%%esi)")                \
    X(addb, "addb %%al, (%%esi)") X(addl, "addl %%eax, (%%esi)") X(addl_from, "addl (%%esi), %%eax") \
    X(addl_value, "addl $-3, (%%esi)") X(adcw, "adcw %%ax, (%%esi)") X(adcl, "adcl %%eax, (%%esi)") \
    X(sbbb, "sbbb %%al, (%%esi)") X(sbbl, "sbbl (%%esi), %%eax") X(subl, "subl %%eax, (%%esi)")     \
    X(andl, "andl %%eax, (%%esi)") X(andb_value, "andb $0xfd, (%%esi)") X(orw, "orw %%ax, (%%esi)")  \
    X(orl_lock, "lock; orl $0x80000000, (%%esi)") X(xorl, "xorl %%edx, (%%esi)")                     \
    X(cmpl, "cmpl %%eax, (%%esi)") X(cmpb_value, "cmpb $0x7f, (%%esi)") X(cmpw_from, "cmpw (%%esi), %%ax") \
    X(testl, "testl %%eax, (%%esi)") X(testb_value, "testb $0x81, (%%esi)")                          \
    X(incb, "incb (%%esi)") X(incl, "incl (%%esi)") X(decw, "decw (%%esi)") X(negl, "negl (%%esi)")  \
    X(notl, "notl (%%esi)") X(xchgb, "xchgb %%dl, (%%esi)") X(xchgl, "xchgl %%eax, (%%esi)")         \
    X(btl, "btl $7, (%%esi)") X(btsl, "btsl $3, (%%esi)") X(btrl, "btrl $31, (%%esi)")               \
    X(btcw, "btcw $9, (%%esi)") X(xaddl, "lock xaddl %%edx, (%%esi)")                                \
    X(cmpxchgl, "lock cmpxchgl %%edx, (%%esi)") X(cmpxchgb, "cmpxchgb %%dl, (%%esi)")

/* One line, so that they are all where the rule file says. */
#define X(name, statement) FORM(name, statement)
FORMS
#undef X

#endif
