/*
 * Types of the wedge. It is freestanding: nothing here comes from a C library.
 *
 * The two kinds of guest address are types of their own, so that the compiler
 * refuses to mix them with each other or with host pointers.
 */
#ifndef PREVIRT_TYPES_H
#define PREVIRT_TYPES_H

/* One program, linked statically: no symbol goes through a table. */
#pragma GCC visibility push(hidden)

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long long s64;
typedef __UINTPTR_TYPE__ uptr;
typedef __SIZE_TYPE__ usize;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

/* Guest-virtual: after segmentation, before paging (SDM: linear address). */
typedef struct {
    u32 value;
} gva_t;

/* Guest-physical: an offset on the virtual PC's memory bus (SDM: physical address). */
typedef struct {
    u64 value;
} gpa_t;

static inline gva_t gva(u32 value) { return (gva_t){value}; }
static inline gpa_t gpa(u64 value) { return (gpa_t){value}; }

#define PAGE_SIZE 4096u
#define PAGE_MASK (~(PAGE_SIZE - 1))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* gcc calls these even in freestanding code; core/string.c defines them. */
void *memcpy(void *restrict to, const void *restrict from, usize size);
void *memset(void *to, int byte, usize size);
void *memmove(void *to, const void *from, usize size);
int memcmp(const void *a, const void *b, usize size);

#endif
