/*
 * Time: the host's monotonic clock through its vDSO, and one timer that
 * interrupts guest code when a device has something to do.
 */

#include <linux/auxvec.h>
#include <linux/elf.h>
#include <linux/time.h>
#include <linux/poll.h>

#include "core/emulate.h"
#include "core/port.h"
#include "hosted.h"
#include "run/state.h"

typedef int clock_gettime_function(int clock, struct __kernel_timespec *time);

static clock_gettime_function *vdso_clock_gettime;
static u64 start_time;
static int timer;
static u64 armed = ~0ul;

static bool equal(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* Finds a function in the vDSO by its dynamic symbols; the host made the image, so it is trusted. */
static void *vdso_symbol(u64 base, const char *name) {
    const Elf64_Ehdr *header = (void *)base;
    const Elf64_Phdr *program = (void *)(base + header->e_phoff);
    const Elf64_Dyn *dynamic = NULL;
    u64 load = 0;
    for (int i = 0; i < header->e_phnum; i++) {
        if (program[i].p_type == PT_LOAD)
            load = base + program[i].p_offset - program[i].p_vaddr;
        if (program[i].p_type == PT_DYNAMIC)
            dynamic = (void *)(base + program[i].p_offset);
    }
    const char *strings = NULL;
    const Elf64_Sym *symbols = NULL;
    const u32 *hash = NULL;
    for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
        void *at = (void *)(load + dynamic->d_un.d_ptr);
        if (dynamic->d_tag == DT_STRTAB)
            strings = at;
        if (dynamic->d_tag == DT_SYMTAB)
            symbols = at;
        if (dynamic->d_tag == DT_HASH)
            hash = at;
    }
    if (!strings || !symbols || !hash)
        return NULL;
    for (u32 i = 0; i < hash[1]; i++)
        if (symbols[i].st_value && equal(strings + symbols[i].st_name, name))
            return (void *)(load + symbols[i].st_value);
    return NULL;
}

static u64 read_clock(int clock) {
    struct __kernel_timespec time;
    if (!vdso_clock_gettime || vdso_clock_gettime(clock, &time))
        HOST_CALL(__NR_clock_gettime, clock, &time);
    return time.tv_sec * 1000000000ul + time.tv_nsec;
}

void clock_start(const u64 *auxiliary) {
    for (; auxiliary[0] != AT_NULL; auxiliary += 2)
        if (auxiliary[0] == AT_SYSINFO_EHDR)
            vdso_clock_gettime = vdso_symbol(auxiliary[1], "__vdso_clock_gettime");
    start_time = read_clock(CLOCK_MONOTONIC);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    long result = HOST_CALL(__NR_timer_create, CLOCK_MONOTONIC, &event, &timer);
    if (host_failed(result))
        host_fail("cannot create a timer", result);
}

u64 port_time(void) { return read_clock(CLOCK_MONOTONIC) - start_time; }

void port_set_time(u64 time) { start_time = read_clock(CLOCK_MONOTONIC) - time; }

u64 port_wall_time(void) { return read_clock(CLOCK_REALTIME); }

u64 port_tsc(void) {
    u32 low, high;
    __asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
    return low | (u64)high << 32;
}

void port_cpuid(u32 leaf, u32 subleaf, u32 registers[4]) {
    __asm__ volatile("cpuid"
                     : "=a"(registers[0]), "=b"(registers[1]), "=c"(registers[2]), "=d"(registers[3])
                     : "0"(leaf), "2"(subleaf));
}

void clock_arm(void) {
    u64 deadline = next_deadline();
    if (deadline == armed)
        return;
    armed = deadline;
    struct __kernel_itimerspec value = {0};
    if (deadline != ~0ul) {
        u64 at = deadline + start_time;
        value.it_value.tv_sec = at / 1000000000;
        value.it_value.tv_nsec = at % 1000000000;
    }
    HOST_CALL(__NR_timer_settime, timer, TIMER_ABSTIME, &value, NULL);
}

void clock_wait(void) {
    u64 deadline = next_deadline(), now = port_time();
    struct __kernel_timespec timeout = {0};
    if (deadline > now) {
        u64 wait = deadline == ~0ul ? 1000000000ul : deadline - now;
        timeout.tv_sec = wait / 1000000000;
        timeout.tv_nsec = wait % 1000000000;
    }
    console_wait(&timeout);
}
