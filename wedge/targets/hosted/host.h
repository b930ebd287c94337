/*
 * The host's system calls, without a C library, and the constants of its ABI
 * from the kernel's own headers.
 */
#ifndef PREVIRT_HOST_H
#define PREVIRT_HOST_H

#include <asm/sigcontext.h>
#include <asm/signal.h>
#include <asm/siginfo.h>
#include <asm/ucontext.h>
#include <asm/unistd.h>
#include <linux/mman.h>
#include <linux/time.h>

#include "core/types.h"

static inline long host_call(long number, long a, long b, long c, long d, long e, long f) {
    long result;
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

#define HOST_CALL(number, ...) HOST_CALL_(number, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define HOST_CALL_(number, a, b, c, d, e, f, ...) \
    host_call(number, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

static inline long host_read(int fd, void *to, usize size) { return HOST_CALL(__NR_read, fd, to, size); }
static inline long host_write(int fd, const void *from, usize size) { return HOST_CALL(__NR_write, fd, from, size); }
static inline long host_pread(int fd, void *to, usize size, u64 offset) {
    return HOST_CALL(__NR_pread64, fd, to, size, offset);
}
static inline long host_pwrite(int fd, const void *from, usize size, u64 offset) {
    return HOST_CALL(__NR_pwrite64, fd, from, size, offset);
}
static inline long host_mmap(u64 address, usize size, int protection, int flags, int fd, u64 offset) {
    return HOST_CALL(__NR_mmap, address, size, protection, flags, fd, offset);
}
static inline long host_munmap(u64 address, usize size) { return HOST_CALL(__NR_munmap, address, size); }
__attribute__((noreturn)) static inline void host_exit(int status) {
    for (;;)
        HOST_CALL(__NR_exit_group, status);
}

static inline bool host_failed(long result) { return (unsigned long)result > -4096ul; }

#endif
