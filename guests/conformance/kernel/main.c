/*
 * Brings the machine up, runs the tests the command line selects, powers off.
 *
 *   only=G1,G2  run only these groups (or group.test)
 *   skip=G1,G2  leave these out
 *   from=G      begin with this group (or group.test)
 *   stress=N    repeat what is a matter of chance N times as often
 */
#include "guest.h"

enum { LOADER_MAGIC = 0x2badb002, HAS_COMMAND_LINE = 4 };

struct multiboot {
    u32 flags, memory_lower, memory_upper, boot_device, command_line;
};

extern const struct test tests[], tests_end[];
void call_test(void (*test)(void));
void power_off(void) __attribute__((noreturn));
void load_gdt(void);
void load_idt(void);
void load_task(void);
void paging_enable(void);
void main(u32 magic, const struct multiboot *info);

u32 stress = 1;
static const char *group = "boot", *name = "start";
static char command_line[1024];

void say_open(void) { print("%s.%s: ", group, name); }

static u32 length(const char *text) {
    u32 count = 0;
    while (text[count])
        count++;
    return count;
}

static bool starts(const char *text, const char *prefix) {
    return length(text) >= length(prefix) && memcmp(text, prefix, length(prefix)) == 0;
}

/* The value of `key=`, up to a blank; NULL if the command line does not have it. */
static const char *option(const char *key) {
    for (const char *at = command_line; *at; at++)
        if ((at == command_line || at[-1] == ' ') && starts(at, key))
            return at + length(key);
    return NULL;
}

/* Whether a list `a,b.c` holds the test or its group. */
static bool listed(const char *list, const struct test *test) {
    u32 group_size = length(test->group), name_size = length(test->name);
    while (*list && *list != ' ') {
        u32 size = 0;
        while (list[size] && list[size] != ',' && list[size] != ' ')
            size++;
        if (size >= group_size && memcmp(list, test->group, group_size) == 0) {
            const char *item = list + group_size + 1;
            if (size == group_size)
                return true;
            if (item[-1] == '.' && size == group_size + 1 + name_size && memcmp(item, test->name, name_size) == 0)
                return true;
        }
        list += size + (list[size] == ',');
    }
    return false;
}

/* Whether a list holds a group or anything of it. */
static bool mentions(const char *list, const char *group) {
    u32 size = length(group);
    while (*list && *list != ' ') {
        if (starts(list, group) && (!list[size] || list[size] == ',' || list[size] == '.' || list[size] == ' '))
            return true;
        while (*list && *list != ',' && *list != ' ')
            list++;
        list += *list == ',';
    }
    return false;
}

/* Whether `only=` and `skip=` let a test run, or a subject of it. */
static bool wanted(const struct test *test) {
    const char *only = option("only="), *skip = option("skip=");
    return (!only || listed(only, test)) && !(skip && listed(skip, test));
}

static bool selected(const struct test *test) {
    static bool begun;
    const char *from = option("from=");
    begun = begun || !from || listed(from, test);
    const char *only = option("only="), *skip = option("skip=");
    if (!begun || (skip && listed(skip, test)))
        return false;
    if (!only)
        return !starts(test->group, "selftest");
    /* A test named `all` has subjects, which decide for themselves. */
    return starts(test->name, "all") ? mentions(only, test->group) : listed(only, test);
}

bool subject(const char *new_name) {
    name = new_name;
    return wanted(&(struct test){group, name, NULL});
}

static void bring_up(void) {
    say("running");
    tables_init();
    load_gdt();
    say("gdt loaded");
    load_idt();
    say("idt loaded");
    load_task();
    say("task register loaded");
    paging_init();
    paging_enable();
    say("paging on");
    devices_init();
    say("interrupt controllers masked");
}

void main(u32 magic, const struct multiboot *info) {
    if (magic == LOADER_MAGIC && info->flags & HAS_COMMAND_LINE) {
        const char *from = (const char *)info->command_line;
        for (u32 i = 0; i < sizeof command_line - 1 && from[i]; i++)
            command_line[i] = from[i];
    }
    const char *factor = option("stress=");
    if (factor)
        for (stress = 0; *factor >= '0' && *factor <= '9'; factor++)
            stress = stress * 10 + (u32)(*factor - '0');
    bring_up();

    u32 count = 0;
    for (const struct test *test = tests; test < tests_end; test++)
        if (selected(test)) {
            group = test->group;
            name = test->name;
            call_test(test->run);
            clean_up();
            count++;
        }
    print("conformance: done %u tests\n", count);
    power_off();
}
