/*
 * The guest's modules: relocatable objects (System V ABI, Intel386 supplement,
 * chapter 4) that the kernel loads by itself, wherever it is told to.
 */
#ifndef CONFORMANCE_MODULES_H
#define CONFORMANCE_MODULES_H

#include "guest.h"

struct elf_header {
    u8 ident[16];
    u16 type, machine;
    u32 version, entry, phoff, shoff, flags;
    u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf_section {
    u32 name, type, flags, addr, offset, size, link, info, addralign, entsize;
};

enum { MODULE_SECTIONS = 48, MODULE_REFUSED = -8 };

struct module {
    const struct elf_header *object;
    struct elf_section sections[MODULE_SECTIONS]; /* of the object; `addr` is where each lies now, loaded or not */
};

/* The loadable part (module/part.c), as an object file inside the kernel. */
extern const u8 part_object[];

/*
 * Copies an object's sections to `address`, those that only its start needs to
 * `start_address`, and relocates them. False if the kernel cannot: it says why.
 */
bool module_place(struct module *module, const void *object, u32 address, u32 start_address);
/* Announces what has been placed. 0, or MODULE_REFUSED: nothing of it may run. */
s32 module_announce(struct module *module);
/* What only its start needs goes away. */
void module_forget_start(struct module *module);
/* All of it goes away. */
void module_unload(struct module *module);

/* NULL if it has no such section. */
struct elf_section *module_section(struct module *module, const char *name);
/* Where a symbol of its own lies; 0 if there is none. */
u32 module_symbol(const struct module *module, const char *name);

#endif
