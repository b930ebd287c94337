/*
 * Modules: loaded, run, unloaded; again elsewhere, two at a time, without
 * records, with records that lie. Nothing on a bare PC looks at records.
 */
#include "../modules.h"

/* Numbers of scratch frames. */
enum { HERE = 128, THERE = 160, START = 192, COPY = 224, OFTEN = 256 };
enum { SIZE = 2 * PAGE_SIZE }; /* of a module, at the most */

static struct module first, second;

static void call(const struct module *module, const char *name) { ((void (*)(void))module_symbol(module, name))(); }

static bool load(struct module *module, u32 where) {
    if (!module_place(module, part_object, frame(where), frame(START)))
        return false;
    s32 error = module_announce(module);
    if (error)
        say("refused: %d", error);
    return !error;
}

static void start(struct module *module) {
    call(module, "part_start");
    module_forget_start(module);
    memset((void *)frame(START), 0xcc, PAGE_SIZE);
}

static void end(struct module *module, u32 where) {
    call(module, "part_end");
    module_unload(module);
    memset((void *)frame(where), 0xcc, SIZE);
}

/* A selector that cannot be loaded: registers and EIP are as before the instruction, wherever it lies. */
static void fail(const struct module *module) {
    struct code code = {.name = "part_load_segment",
                        .start = (const u8 *)module_symbol(module, "part_load_segment"),
                        .end = (const u8 *)module_symbol(module, "part_load_segment_end")};
    const u32 selectors[] = {KERNEL_DS, BEYOND_GDT, ABSENT_DATA, EXECUTE_ONLY};
    for (u32 i = 0; i < ARRAY_SIZE(selectors); i++) {
        struct regs in = {.eax = selectors[i], .ecx = 1, .edx = 2, .ebx = 3, .ebp = 4, .esi = 5, .edi = 6, .eflags = FIXED | CF};
        run(&code, &in);
        say_open();
        print("load of %x: ", selectors[i]);
        print_outcome(&code);
        print_changes(&code, &in);
        print("\n");
    }
}

TEST(module, loaded) {
    if (!load(&first, HERE))
        return;
    start(&first);
    call(&first, "part_work");
    fail(&first);
    end(&first, HERE);
}

TEST(module, loaded_elsewhere) {
    if (!load(&first, HERE))
        return;
    end(&first, HERE);
    if (!load(&first, THERE))
        return;
    start(&first);
    call(&first, "part_work");
    fail(&first);
    end(&first, THERE);
}

/* One in the other's place, and nobody said that the other is gone. */
TEST(module, replaced) {
    if (!load(&first, HERE) || !load(&second, HERE))
        return;
    start(&second);
    call(&second, "part_work");
    end(&second, HERE);
}

TEST(module, two) {
    if (!load(&first, HERE))
        return;
    start(&first);
    if (!load(&second, THERE))
        return;
    start(&second);
    end(&first, HERE);
    call(&second, "part_work");
    end(&second, THERE);
}

/* Each time at another place: more modules in all than could be there at a time. */
TEST(module, often) {
    enum { PLACES = 200 };
    u32 right = 0;
    for (u32 i = 0; i < PLACES * stress; i++) {
        u32 place = frame(OFTEN) + i % PLACES * SIZE;
        if (!module_place(&first, part_object, place, frame(START)) || module_announce(&first))
            break;
        right += ((bool (*)(void))module_symbol(&first, "part_check"))();
        module_unload(&first);
        memset((void *)place, 0xcc, SIZE);
    }
    say("%s", right == PLACES * stress ? "right each time" : "not right each time");
}

/* As one from elsewhere is: its instructions are found without records. */
TEST(module, without_records) {
    if (!module_place(&first, part_object, frame(HERE), frame(START)))
        return;
    struct elf_section *records = module_section(&first, ".previrt.sites");
    if (records)
        records->size = 0;
    if (module_announce(&first)) {
        say("refused");
        return;
    }
    start(&first);
    call(&first, "part_work");
    fail(&first);
    end(&first, HERE);
}

/* A site record, as docs/annotation.md has it. */
struct record {
    s32 distance;
    u8 length, widening, domain, kind;
    u16 flags, version;
} __attribute__((packed));

static void outside(struct record *record) { record->distance += 0x100000; }
static void in_the_kernel(struct record *record) {
    record->distance = (s32)((u32)codes[CODE_cli].start - (u32)record);
}
static void inside(struct record *record) { record->distance += 1; }
static void too_short(struct record *record) { record->length = 3; }
static void too_long(struct record *record) { record->length = 15; }
static void endless(struct record *record) { record->length = 255; }
static void other_domain(struct record *record) { record->domain = 77; }
static void other_version(struct record *record) { record->version = 9; }
static void twice(struct record *record) {
    record[1] = record[0];
    record[1].distance -= sizeof *record;
}

static const struct {
    const char *name;
    void (*spoil)(struct record *record);
} lies[] = {
    {"outside", outside},           {"in the kernel", in_the_kernel}, {"inside an instruction", inside},
    {"too short", too_short},       {"too long", too_long},           {"endless", endless},
    {"other domain", other_domain}, {"other version", other_version}, {"twice", twice},
};

TEST(module, lies) {
    for (u32 i = 0; i < ARRAY_SIZE(lies); i++) {
        if (!module_place(&first, part_object, frame(HERE), frame(START)))
            return;
        struct elf_section *records = module_section(&first, ".previrt.sites");
        if (records)
            lies[i].spoil((struct record *)records->addr);
        memcpy((void *)frame(COPY), (void *)frame(HERE), SIZE);
        s32 error = module_announce(&first);
        if (error && error != MODULE_REFUSED)
            say("%s: error %d", lies[i].name, error);
        else
            say("%s: %s", lies[i].name, error ? "refused" : "accepted");
        if (error && memcmp((void *)frame(COPY), (void *)frame(HERE), SIZE))
            say("%s: refused, and written to", lies[i].name);
        module_unload(&first);
    }
    if (!load(&first, HERE))
        return;
    start(&first);
    end(&first, HERE);
}
