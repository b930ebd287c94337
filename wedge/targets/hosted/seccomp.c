/*
 * The allowlist. From here on the process has what the guest has: its memory,
 * its console, its disk, the clock. No files, no network, no processes; and a
 * 32-bit system call, which only guest code can make, becomes a signal.
 */

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/prctl.h>
#include <linux/seccomp.h>

#include "hosted.h"

#define FIELD(name) __builtin_offsetof(struct seccomp_data, name)
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, action)
#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), RETURN(SECCOMP_RET_ALLOW)

void seccomp_start(void) {
    struct sock_filter filter[] = {
        LOAD(FIELD(arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_I386, 0, 1),
        RETURN(SECCOMP_RET_TRAP),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(FIELD(nr)),
        ALLOW(__NR_rt_sigreturn),
        ALLOW(__NR_munmap),
        ALLOW(__NR_timer_settime),
        ALLOW(__NR_ppoll),
        ALLOW(__NR_clock_gettime),
        ALLOW(__NR_read),
        ALLOW(__NR_write),
        ALLOW(__NR_pread64),
        ALLOW(__NR_pwrite64),
        ALLOW(__NR_fdatasync),
        ALLOW(__NR_exit_group),
        /* Mappings: of guest RAM, or of memory that is not there. */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mmap, 1, 0),
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(FIELD(args[3])),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, MAP_ANONYMOUS, 0, 1), /* which takes no notice of the descriptor */
        RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(FIELD(args[4])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ram_fd, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, absent_fd, 0, 1),
        RETURN(SECCOMP_RET_ALLOW),
        RETURN(SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {ARRAY_SIZE(filter), filter};
    long result = HOST_CALL(__NR_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (!host_failed(result))
        result = HOST_CALL(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program);
    if (host_failed(result))
        host_fail("cannot install the seccomp filter", result);
}
