/*
 * Accesses to a device's registers in memory as a driver makes them, the two
 * ways in which the rule file (domains.json) can find them: inline assembly, by
 * this header's name; and plain C, by the names of its functions. How to
 * address the operand, and whether a value is in a register, the compiler chooses.
 */
#ifndef CONFORMANCE_ACCESSORS_H
#define CONFORMANCE_ACCESSORS_H

#include "guest.h"

#define INLINE static inline __attribute__((always_inline))

#define READ(name, type, wide, result, statement)                                                  \
    INLINE wide name(const volatile void *at) {                                                    \
        wide value;                                                                                \
        asm volatile(statement : result(value) : "m"(*(const volatile type *)at) : "memory");      \
        return value;                                                                              \
    }
READ(read8, u8, u8, "=q", "movb %1, %0")
READ(read16, u16, u16, "=r", "movw %1, %0")
READ(read32, u32, u32, "=r", "movl %1, %0")
READ(read8_wide, u8, u32, "=r", "movzbl %1, %0")
READ(read16_wide, u16, u32, "=r", "movzwl %1, %0")

#define CHANGE(name, type, operand, statement)                                                     \
    INLINE void name(volatile void *at, type value) {                                              \
        asm volatile(statement : "+m"(*(volatile type *)at) : operand(value) : "cc", "memory");    \
    }
CHANGE(write8, u8, "qi", "movb %1, %0")
CHANGE(write16, u16, "ri", "movw %1, %0")
CHANGE(write32, u32, "ri", "movl %1, %0")
CHANGE(or8, u8, "qi", "orb %1, %0")
CHANGE(or16, u16, "ri", "orw %1, %0")
CHANGE(or32, u32, "ri", "orl %1, %0")
CHANGE(and8, u8, "qi", "andb %1, %0")
CHANGE(and16, u16, "ri", "andw %1, %0")
CHANGE(and32, u32, "ri", "andl %1, %0")

INLINE u8 get8(const volatile void *at) { return *(const volatile u8 *)at; }
INLINE u16 get16(const volatile void *at) { return *(const volatile u16 *)at; }
INLINE u32 get32(const volatile void *at) { return *(const volatile u32 *)at; }
INLINE void put8(volatile void *at, u8 value) { *(volatile u8 *)at = value; }
INLINE void put16(volatile void *at, u16 value) { *(volatile u16 *)at = value; }
INLINE void put32(volatile void *at, u32 value) { *(volatile u32 *)at = value; }

#endif
