/*
 * The loader of modules. Three functions do nothing but be entered: the rule
 * file (domains.json) names them, and what is below the kernel, if anything,
 * learns there of a module before its first instruction runs.
 */
#include "modules.h"

/* A function of its own, under its own name, with arguments in EAX, EDX and ECX. */
#define ANNOUNCEMENT static __attribute__((noipa, regparm(3)))

ANNOUNCEMENT s32 module_placed(const struct elf_header *object, const struct elf_section *sections,
                               const struct module *module) {
    (void)object, (void)sections, (void)module;
    return 0;
}
ANNOUNCEMENT void module_started(const struct module *module) { (void)module; }
ANNOUNCEMENT void module_gone(const struct module *module) { (void)module; }

enum { SHT_SYMTAB = 2, SHT_NOBITS = 8, SHT_REL = 9, SHF_ALLOC = 2 };
enum { SHN_UNDEF = 0, SHN_ABS = 0xfff1 };
enum { R_386_32 = 1, R_386_PC32 = 2, R_386_PLT32 = 4 };

struct elf_symbol {
    u32 name, value, size;
    u8 info, other;
    u16 section;
};

struct elf_relocation {
    u32 offset, info;
};

/* What modules may use of the kernel. */
extern const u8 run_done[];
static const struct {
    const char *name;
    u32 address;
} exports[] = {
    {"say", (u32)say},
    {"gdt", (u32)gdt},
    {"idt", (u32)idt},
    {"page_directory", (u32)page_directory},
    {"run_done", (u32)run_done},
};

static bool equal(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static bool starts(const char *text, const char *with) {
    while (*with && *text == *with)
        text++, with++;
    return !*with;
}

/* What the object file has of a section. */
static const void *contents(const struct module *module, u32 section) {
    return (const u8 *)module->object + module->sections[section].offset;
}

static const char *section_name(const struct module *module, const struct elf_section *section) {
    return (const char *)contents(module, module->object->shstrndx) + section->name;
}

struct elf_section *module_section(struct module *module, const char *name) {
    for (u32 i = 1; i < module->object->shnum; i++)
        if (equal(section_name(module, &module->sections[i]), name))
            return &module->sections[i];
    return NULL;
}

static u32 exported(const char *name) {
    for (u32 i = 0; i < ARRAY_SIZE(exports); i++)
        if (equal(exports[i].name, name))
            return exports[i].address;
    say("no symbol %s in the kernel", name);
    return 0;
}

/* Where a symbol of table `symbols` lies; 0 if nobody has it. */
static u32 resolve(const struct module *module, u32 symbols, u32 index) {
    const struct elf_symbol *symbol = (const struct elf_symbol *)contents(module, symbols) + index;
    if (symbol->section == SHN_UNDEF)
        return exported((const char *)contents(module, module->sections[symbols].link) + symbol->name);
    return (symbol->section == SHN_ABS ? 0 : module->sections[symbol->section].addr) + symbol->value;
}

u32 module_symbol(const struct module *module, const char *name) {
    for (u32 i = 1; i < module->object->shnum; i++) {
        const struct elf_section *table = &module->sections[i];
        if (table->type != SHT_SYMTAB)
            continue;
        const struct elf_symbol *symbols = contents(module, i);
        for (u32 n = 1; n < table->size / sizeof *symbols; n++)
            if (equal((const char *)contents(module, table->link) + symbols[n].name, name))
                return resolve(module, i, n);
    }
    return 0;
}

/* The relocations of section `table`, if they concern something that lies in memory. */
static bool relocate(const struct module *module, u32 table) {
    const struct elf_section *section = &module->sections[table], *target = &module->sections[section->info];
    const struct elf_relocation *relocations = contents(module, table);
    if (section->type != SHT_REL || !(target->flags & SHF_ALLOC))
        return true;
    for (u32 i = 0; i < section->size / sizeof *relocations; i++) {
        u32 at = target->addr + relocations[i].offset, type = relocations[i].info & 0xff;
        u32 value = resolve(module, section->link, relocations[i].info >> 8);
        if (!value)
            return false;
        if (type == R_386_PC32 || type == R_386_PLT32) {
            value -= at;
        } else if (type != R_386_32) {
            say("unknown relocation %u", type);
            return false;
        }
        *(u32 *)at += value;
    }
    return true;
}

bool module_place(struct module *module, const void *object, u32 address, u32 start_address) {
    module->object = object;
    if (module->object->shnum > MODULE_SECTIONS) {
        say("%u sections", module->object->shnum);
        return false;
    }
    memcpy(module->sections, (const u8 *)object + module->object->shoff,
           module->object->shnum * sizeof module->sections[0]);
    for (u32 i = 1; i < module->object->shnum; i++) {
        struct elf_section *section = &module->sections[i];
        u32 *place = starts(section_name(module, section), ".init") ? &start_address : &address;
        if (!(section->flags & SHF_ALLOC)) {
            section->addr = (u32)contents(module, i); /* it stays there */
            continue;
        }
        section->addr = (*place + section->addralign - 1) & -section->addralign;
        *place = section->addr + section->size;
        if (section->type == SHT_NOBITS)
            memset((void *)section->addr, 0, section->size);
        else
            memcpy((void *)section->addr, contents(module, i), section->size);
    }
    for (u32 i = 1; i < module->object->shnum; i++)
        if (!relocate(module, i))
            return false;
    return true;
}

s32 module_announce(struct module *module) { return module_placed(module->object, module->sections, module); }
void module_forget_start(struct module *module) { module_started(module); }
void module_unload(struct module *module) { module_gone(module); }
