/*
 * Loads the guest and checks what comes back.
 *
 *   stress scatter MIB   touches each page of so much memory in scattered order, twice
 *   stress load SECONDS  processes that fork, exec, signal, talk through pipes, share pages and write files
 *   stress xgetbv        asks CPUID, as glibc does when a program starts, and uses XGETBV after a line of input
 *
 * Prints `stress: ok` or the first thing that was not as it should be.
 */

#include <cpuid.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096u

static void fail(const char *what, long value) {
    printf("stress: %s: %ld (%s)\n", what, value, strerror(errno));
    fflush(stdout);
    _exit(1);
}

static void must(int condition, const char *what, long value) {
    if (!condition)
        fail(what, value);
}

static uint32_t *map(uint32_t bytes, int flags) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
    must(at != MAP_FAILED, "mmap", bytes);
    return at;
}

/* --- Memory in scattered order --- */

/* Visits 0 .. count-1 once each: multiples of a prime that does not divide the count. */
static void scatter(uint32_t mib) {
    uint32_t count = mib * (1048576 / PAGE), step = 1000003, page = 0;
    must(count && count % step, "pages", count);
    volatile uint32_t *memory = map(count * PAGE, MAP_PRIVATE);
    for (uint32_t i = 0; i < count; i++, page = ((uint64_t)page + step) % count)
        memory[page * (PAGE / 4) + page % 1024] = ~page;
    for (uint32_t i = 0; i < count; i++, page = ((uint64_t)page + step) % count)
        must(memory[page * (PAGE / 4) + page % 1024] == ~page, "content of page", page);
}

/* --- Mixed load: each job does a little and checks it --- */

static int wait_for(pid_t child) {
    int status = -1;
    while (waitpid(child, &status, 0) < 0)
        must(errno == EINTR, "waitpid", child);
    return status;
}

static pid_t start(void) {
    fflush(stdout);
    pid_t child = fork();
    must(child >= 0, "fork", child);
    return child;
}

/* A child changes private pages; the parent's stay, shared ones do not. */
static void share_pages(uint32_t round) {
    enum { COUNT = 24 };
    volatile uint32_t *own = map(COUNT * PAGE, MAP_PRIVATE), *shared = map(PAGE, MAP_SHARED);
    for (uint32_t i = 0; i < COUNT; i++)
        own[i * (PAGE / 4)] = round + i;
    pid_t child = start();
    if (!child) {
        for (uint32_t i = 0; i < COUNT; i++)
            own[i * (PAGE / 4)] += 7;
        shared[0] = own[(COUNT - 1) * (PAGE / 4)];
        _exit(0);
    }
    must(wait_for(child) == 0, "status of a child", child);
    must(shared[0] == round + COUNT - 1 + 7, "shared page", shared[0]);
    for (uint32_t i = 0; i < COUNT; i++)
        must(own[i * (PAGE / 4)] == round + i, "private page after a fork", i);
    must(munmap((void *)own, COUNT * PAGE) == 0 && munmap((void *)shared, PAGE) == 0, "munmap", 0);
}

static void start_program(uint32_t round) {
    int status = round % 100;
    char number[16];
    snprintf(number, sizeof number, "%d", status);
    pid_t child = start();
    if (!child) {
        execl("/proc/self/exe", "stress", "exit", number, NULL);
        _exit(255);
    }
    must(wait_for(child) == status << 8, "status of a program", status);
}

/* A child gives back each word plus one, with floating point in between. */
static void talk(uint32_t round) {
    int to[2], from[2];
    must(pipe(to) == 0 && pipe(from) == 0, "pipe", 0);
    pid_t child = start();
    if (!child) {
        close(to[1]);
        double word;
        while (read(to[0], &word, sizeof word) == sizeof word) {
            word += 1;
            must(write(from[1], &word, sizeof word) == sizeof word, "write", 0);
        }
        _exit(0);
    }
    close(to[0]);
    double word = round;
    for (int i = 0; i < 20; i++) {
        must(write(to[1], &word, sizeof word) == sizeof word, "write", i);
        must(read(from[0], &word, sizeof word) == sizeof word, "read", i);
    }
    must(word == round + 20.0, "sum through pipes", (long)word);
    close(to[1]);
    must(wait_for(child) == 0, "status of a talker", child);
    close(from[0]);
    close(from[1]);
}

static void files(uint32_t round) {
    char name[64];
    uint32_t block[256];
    snprintf(name, sizeof name, "/tmp/stress.%d", getpid());
    int file = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    must(file >= 0, "open", file);
    for (uint32_t i = 0; i < 32; i++) {
        for (uint32_t k = 0; k < 256; k++)
            block[k] = round * 31 + i * 256 + k;
        must(write(file, block, sizeof block) == sizeof block, "write to a file", i);
    }
    uint32_t *view = mmap(NULL, 32 * sizeof block, PROT_READ, MAP_SHARED, file, 0);
    must(view != MAP_FAILED, "mmap of a file", file);
    for (uint32_t i = 0; i < 32 * 256; i++)
        must(view[i] == round * 31 + i, "content of a file", i);
    must(munmap(view, 32 * sizeof block) == 0 && close(file) == 0 && unlink(name) == 0, "close", file);
}

static volatile sig_atomic_t caught;

static void on_signal(int number) { caught += number; }

static void signals(uint32_t round) {
    (void)round;
    struct itimerval soon = {.it_value = {.tv_usec = 1000}};
    caught = 0;
    for (int i = 0; i < 10; i++)
        raise(SIGUSR1);
    must(caught == 10 * SIGUSR1, "signals", caught);
    caught = 0;
    must(setitimer(ITIMER_REAL, &soon, NULL) == 0, "setitimer", 0);
    /* Code of its own until the timer comes. */
    for (volatile uint32_t spin = 0; !caught; spin = spin + 1)
        ;
    must(caught == SIGALRM, "timer", caught);
}

typedef void job(uint32_t round);
static job *const jobs[] = {share_pages, start_program, talk, files, signals};

static void load(int seconds) {
    enum { WORKERS = 5, JOBS = sizeof jobs / sizeof jobs[0] };
    time_t end = time(NULL) + seconds;
    pid_t workers[WORKERS];
    signal(SIGUSR1, on_signal);
    signal(SIGALRM, on_signal);
    for (uint32_t i = 0; i < WORKERS; i++) {
        workers[i] = start();
        if (workers[i])
            continue;
        for (uint32_t round = i; time(NULL) < end; round++)
            jobs[round % JOBS](round);
        _exit(0);
    }
    for (uint32_t i = 0; i < WORKERS; i++)
        must(wait_for(workers[i]) == 0, "status of a worker", i);
}

/* --- What CPUID says, some time later --- */

static void use_xgetbv(void) {
    uint32_t eax, ebx, ecx = 0, edx, low, high;
    char line[16];
    __get_cpuid(1, &eax, &ebx, &ecx, &edx);
    printf("stress: OSXSAVE %d\n", !!(ecx & bit_OSXSAVE));
    fflush(stdout);
    must(fgets(line, sizeof line, stdin) != NULL, "input", 0);
    if (!(ecx & bit_OSXSAVE))
        return;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    must(low & 1, "XCR0 without x87", low);
}

int main(int count, char **arguments) {
    int number = count == 3 ? atoi(arguments[2]) : 0;
    if (count == 3 && !strcmp(arguments[1], "exit"))
        return number;
    if (count == 3 && !strcmp(arguments[1], "scatter"))
        scatter(number);
    else if (count == 3 && !strcmp(arguments[1], "load"))
        load(number);
    else if (count == 2 && !strcmp(arguments[1], "xgetbv"))
        use_xgetbv();
    else
        fail("usage: stress scatter MIB | load SECONDS | xgetbv", count);
    puts("stress: ok");
    return 0;
}
