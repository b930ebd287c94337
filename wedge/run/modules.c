/*
 * The guest's modules. Its kernel announces each when it is placed and
 * relocated: then its sites are burned, before anything of it runs. They are
 * forgotten when it goes, its initialization's when that is over.
 *
 * What a module says of itself is not trusted: it is refused as a whole, before
 * anything is written, unless every record names one sensitive instruction
 * inside its own text. Without records its text is disassembled instead.
 *
 * One that was burned ahead of time (src/substitution/burn-module.ts) brings
 * its patch tables along: the first call of a site leads to that of its section.
 */

#include "burn.h"
#include "core/cpu.h"
#include "core/crash.h"
#include "core/decode.h"
#include "mmu/mmu.h"
#include "run.h"

/* ELF in memory, 32 bits (System V ABI, chapter 4), as the kernel keeps it while it loads: sh_addr is where a section lies. */
struct elf_header {
    u8 ident[16];
    u16 type, machine;
    u32 version, entry, phoff, shoff, flags;
    u16 ehsize, phentsize, phnum, shentsize, shnum, shstrndx;
};

struct elf_section {
    u32 name, type, flags, addr, offset, size, link, info, addralign, entsize;
};

#define SHF_ALLOC 2u
#define SHF_EXECINSTR 4u

/* The site record (src/x86/site-record.ts). */
struct record {
    s32 distance;
    u8 length, widening, domain, kind;
    u16 flags, version;
};

#define SECTIONS 512u    /* that a module may have */
#define TEXTS 64u        /* of them with code */
#define SITES 4096u      /* and sites */

struct text {
    u32 start, end;
    bool init; /* goes when that is over */
};

static struct {
    u32 owner;   /* the guest's struct module */
    char name[56];
    struct elf_section records, alternatives;
    struct text texts[TEXTS];
    u32 text_count;
    u32 site_count;
} module;
static struct patch_entry sites[SITES];
static u32 domains;

void modules_start(u32 burned) { domains = burned; }

/* Entries of one module and of its initialization code only: the low bit of a pointer is free. */
#define OWNER_INIT 1u

static bool refuse(const char *why, u32 record) {
    report("previrt: module %s is refused: site record %u %s", module.name, record, why);
    return false;
}

static bool refuse_whole(const char *why) {
    report("previrt: module %s is refused: %s", module.name, why);
    return false;
}

/* --- Reading what the kernel holds of it --- */

static bool read(u32 address, void *to, u32 size) { return guest_read(gva(address), to, size, 0); }

/* Whether the name of a section, at an address, begins with a text; its terminating zero belongs to it if `whole`. */
static bool name_begins(u32 address, const char *with, bool whole) {
    char c;
    for (;; with++, address++) {
        if (!*with && !whole)
            return true;
        if (!read(address, &c, 1) || c != *with)
            return false;
        if (!c)
            return true;
    }
}

/* "name=..." among the zero-terminated texts of section .modinfo. */
static void take_name(const struct elf_section *modinfo) {
    static const char key[] = "name=";
    u32 matched = 0, length = 0;
    bool at_start = true;
    char c;
    for (u32 i = 0; i < modinfo->size && i < 65536 && read(modinfo->addr + i, &c, 1); i++) {
        if (matched == sizeof key - 1) {
            if (!c || length == sizeof module.name - 1)
                return;
            module.name[length++] = c < ' ' || c > '~' ? '?' : c;
            module.name[length] = 0;
            continue;
        }
        matched = at_start && c == key[matched] ? matched + 1 : 0;
        at_start = !c || matched;
    }
}

static bool take_section(const struct elf_section *section, u32 name) {
    if (name_begins(name, ".modinfo", true))
        take_name(section);
    if (!(section->flags & SHF_ALLOC))
        return true;
    if (name_begins(name, ".previrt.sites", true))
        module.records = *section;
    if (name_begins(name, ".altinstructions", true))
        module.alternatives = *section;
    if (!(section->flags & SHF_EXECINSTR) || !section->size)
        return true;
    if (module.text_count == TEXTS)
        return refuse_whole("it has too many sections of code");
    if (section->addr + section->size < section->addr)
        return refuse_whole("a section of code has no possible address");
    module.texts[module.text_count++] =
        (struct text){section->addr, section->addr + section->size, name_begins(name, ".init", false)};
    return true;
}

static bool take_sections(u32 header_address, u32 sections_address) {
    struct elf_header header;
    struct elf_section names, section;
    if (!read(header_address, &header, sizeof header) || header.shentsize != sizeof section ||
        header.shnum > SECTIONS || header.shstrndx >= header.shnum ||
        !read(sections_address + header.shstrndx * sizeof names, &names, sizeof names))
        return refuse_whole("its section headers cannot be read");
    for (u32 i = 1; i < header.shnum; i++) {
        if (!read(sections_address + i * sizeof section, &section, sizeof section))
            return refuse_whole("its section headers cannot be read");
        if (!take_section(&section, names.addr + section.name))
            return false;
    }
    return true;
}

/* --- From records to sites --- */

static const struct text *text_around(u32 start, u32 length) {
    for (u32 i = 0; i < module.text_count; i++)
        if (start >= module.texts[i].start && start < module.texts[i].end && length <= module.texts[i].end - start)
            return &module.texts[i];
    return NULL;
}

static bool is_segment_prefix(u8 byte) {
    return (byte & 0xe7) == 0x26 || byte == 0x64 || byte == 0x65;
}

/* Whether the slot is one instruction, widened as the record says. */
static bool is_slot(const struct patch_entry *site) {
    struct instruction instruction;
    bool fillers_are_nops = site->flags & SITE_interiorBoundary;
    for (u32 i = 0; i < site->widening; i++)
        if (fillers_are_nops ? site->original[i] != 0x90 : !is_segment_prefix(site->original[i]))
            return false;
    u32 filler = site_filler(site);
    return decode(site->original + filler, site->length - filler, &instruction) &&
           instruction.length == site->length - filler;
}

static bool take_record(u32 index) {
    struct record record;
    u32 at = module.records.addr + index * sizeof record;
    if (!read(at, &record, sizeof record))
        return refuse("cannot be read", index);
    u32 least = record.flags & SITE_absolute ? 6 : 5;
    if (record.version != SITE_RECORD_VERSION)
        return refuse("is of another version", index);
    if (record.domain < DOMAIN_cpu || record.domain > DOMAIN_pagetable || (record.flags & SITE_long))
        return refuse("is of a domain that no module's code has", index);
    if (record.length < least || record.length > MAX_INSTRUCTION || record.widening >= record.length)
        return refuse("has an impossible length", index);
    u32 start = at + (u32)record.distance;
    const struct text *text = text_around(start, record.length);
    if (!text)
        return refuse("points outside its code", index);
    struct patch_entry *site = &sites[module.site_count++];
    *site = (struct patch_entry){
        .address = start,
        .length = record.length,
        .widening = record.widening,
        .domain = record.domain,
        .kind = record.kind,
        .flags = record.flags,
        .owner = module.owner | (text->init ? OWNER_INIT : 0),
    };
    if (!read(start, site->original, site->length) || !is_slot(site))
        return refuse("does not point at an instruction of its length", index);
    site->entry = burn_entry(site, domains);
    return true;
}

/* They come in the order of the sections' code, nearly sorted. */
static void sort_sites(void) {
    for (u32 i = 1; i < module.site_count; i++) {
        struct patch_entry site = sites[i];
        u32 place = i;
        for (; place && sites[place - 1].address > site.address; place--)
            sites[place] = sites[place - 1];
        sites[place] = site;
    }
}

static bool take_records(void) {
    u32 count = module.records.size / sizeof(struct record);
    if (module.records.size % sizeof(struct record))
        return refuse_whole("its section of site records has a part of one at its end");
    if (count > SITES || count > sites_room())
        return refuse_whole("it has too many sites");
    for (u32 i = 0; i < count; i++)
        if (!take_record(i))
            return false;
    sort_sites();
    for (u32 i = 1; i < count; i++)
        if (sites[i].address - sites[i - 1].address < sites[i - 1].length)
            return refuse_whole("two of its sites overlap");
    return true;
}

/* --- Modules without records --- */

static bool take_swept(const struct text *text) {
    struct instruction instruction;
    for (u32 at = text->start; at < text->end; at += instruction.length) {
        struct patch_entry *site = &sites[module.site_count];
        u32 rest = text->end - at;
        u8 count = rest < MAX_INSTRUCTION ? rest : MAX_INSTRUCTION;
        *site = (struct patch_entry){.address = at,
                                     .domain = DOMAIN_cpu,
                                     .entry = PATCH_TRAPS,
                                     .owner = module.owner | (text->init ? OWNER_INIT : 0)};
        if (!read(at, site->original, count) || !decode_length(site->original, count, &instruction))
            return refuse_whole("it was not built by this toolchain, and its code cannot be decoded");
        if (!sweep_finds(&instruction))
            continue;
        site->length = instruction.length;
        memset(site->original + site->length, 0, sizeof site->original - site->length);
        if (++module.site_count == SITES || module.site_count > sites_room())
            return refuse_whole("it has too many sensitive instructions");
    }
    return true;
}

static bool is_possible(const struct alternative *alternative) {
    return text_around(alternative->target, alternative->target_length) &&
           alternative->length <= alternative->target_length &&
           (!alternative->length || text_around(alternative->replacement, alternative->length));
}

/* The first of `count` sorted sites that starts at or after an address. */
static u32 first_from(u32 address, u32 count) {
    u32 low = 0, high = count;
    while (low < high) {
        u32 middle = (low + high) / 2;
        if (sites[middle].address < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Where the kernel will copy `count` sorted sites to, if the processor is one that the alternative is for. */
static bool take_copies(const struct alternative *alternative, u32 count) {
    u32 end = alternative->replacement + alternative->length;
    for (u32 i = first_from(alternative->replacement, count); i < count && sites[i].address < end; i++) {
        if (module.site_count == SITES || module.site_count == sites_room())
            return refuse_whole("it has too many sensitive instructions");
        struct patch_entry *copy = &sites[module.site_count++];
        *copy = sites[i];
        copy->address += alternative->target - alternative->replacement;
        copy->entry = PATCH_COPY;
        copy->owner = module.owner | (text_around(alternative->target, 1)->init ? OWNER_INIT : 0);
    }
    return true;
}

/* The same at the same place is one. Of two instructions that could stand there nobody knows which does. */
static bool merge_copies(void) {
    u32 kept = 0;
    for (u32 i = 0; i < module.site_count; i++) {
        struct patch_entry *last = kept ? &sites[kept - 1] : NULL;
        if (!last || last->address != sites[i].address)
            sites[kept++] = sites[i];
        else if (memcmp(last->original, sites[i].original, sizeof last->original))
            return refuse_whole("it was not built by this toolchain, and has sensitive alternatives of one another");
    }
    module.site_count = kept;
    return true;
}

static bool take_alternatives(void) {
    u32 swept = module.site_count;
    if (!alternatives_open(module.alternatives.addr, module.alternatives.size, is_possible))
        return refuse_whole("it was not built by this toolchain, and its alternatives have no known form");
    for (struct alternative a; alternatives_next(&a);)
        if (!take_copies(&a, swept))
            return false;
    sort_sites();
    return merge_copies();
}

static bool sweep(void) {
    for (u32 i = 0; i < module.text_count; i++)
        if (!take_swept(&module.texts[i]))
            return false;
    sort_sites();
    u32 count = module.site_count;
    if (count)
        report("previrt: module %s was not built by this toolchain: %u of its instructions will trap", module.name,
               count);
    return !count || take_alternatives();
}

/* --- What is written to it, and what is forgotten --- */

static void burn_sites(void) {
    for (u32 i = 0; i < module.site_count; i++) {
        u8 slot[sizeof sites[i].original];
        if (sites[i].entry == PATCH_COPY)
            continue; /* the kernel itself copies it there */
        burn_slot(&sites[i], slot);
        guest_patch(gva(sites[i].address), slot, sites[i].length);
    }
    sites_add(sites, module.site_count);
}

static bool lies_in_texts(const struct patch_entry *site, const void *unused) {
    (void)unused;
    return text_around(site->address, 1);
}

static bool belongs_to(const struct patch_entry *site, const void *owner) {
    return (site->owner & ~OWNER_INIT) == *(const u32 *)owner;
}

static bool is_init_of(const struct patch_entry *site, const void *owner) {
    return site->owner == (*(const u32 *)owner | OWNER_INIT);
}

static bool is_free(const struct patch_entry *place) {
    for (u32 i = 0; i < module.site_count; i++)
        if (sites[i].address < place->address + place->length && place->address < sites[i].address + sites[i].length)
            return false;
    return true;
}

/*
 * Where the kernel is about to copy burned sites to: they are sites like others
 * then. One that is not copied is found to be the guest's own when it is lifted,
 * and so is what replaces another site.
 */
static void await_copies(void) {
    u32 count = module.site_count;
    if (!alternatives_open(module.alternatives.addr, module.alternatives.size, is_possible))
        return;
    for (struct alternative a; alternatives_next(&a);)
        for (u32 i = first_from(a.replacement, count); i < count && sites[i].address < a.replacement + a.length; i++) {
            struct patch_entry copy = sites[i];
            copy.address += a.target - a.replacement;
            copy.owner = module.owner | (text_around(a.target, 1)->init ? OWNER_INIT : 0);
            if (!(copy.flags & SITE_absolute) || module.site_count == SITES || !sites_room() || !is_free(&copy))
                continue;
            sites[module.site_count++] = copy;
            sites_add(&copy, 1);
        }
}

/* --- Coming and going --- */

static bool load(void) {
    memset(&module, 0, sizeof module);
    memcpy(module.name, "?", 2);
    module.owner = cpu.gpr[ECX];
    if (!take_sections(cpu.gpr[EAX], cpu.gpr[EDX]))
        return false;
    for (u32 i = 0; i < module.text_count; i++)
        if (sites_are_kernels(module.texts[i].start, module.texts[i].end))
            return refuse_whole("its code lies where the kernel's does");
    /* Of one whose load failed before its end was announced. */
    sites_remove(lies_in_texts, NULL);
    if (!(module.records.size ? take_records() : sweep()))
        return false;
    burn_sites();
    if (module.records.size)
        await_copies();
    return true;
}

/* Linux for i386 passes the first three arguments in EAX, EDX and ECX (gcc's regparm). */
bool modules_announced(u8 kind) {
    if (kind == KIND_module_load)
        return load();
    sites_remove(kind == KIND_module_unload ? belongs_to : is_init_of, &cpu.gpr[EAX]);
    return true;
}

/* --- Burned ahead of time --- */

/* The bytes between a section's code and its table: the call that has led here. */
#define STUB_LENGTH 8u

static bool holds(const struct patch_entry *site, const u8 *expected) {
    u8 found[sizeof site->original];
    return read(site->address, found, site->length) && !memcmp(found, expected, site->length);
}

static bool is_burned(const struct patch_entry *site) {
    u8 slot[sizeof site->original];
    burn_slot(site, slot);
    return holds(site, slot);
}

/* A slot as it was burned ahead: a call of the stub. */
static bool calls_stub(const struct patch_entry *site, u32 stub) {
    u8 slot[sizeof site->original];
    burn_call(site, stub, slot);
    return holds(site, slot);
}

static bool is_gone(const struct patch_entry *site, const void *unused) {
    (void)unused;
    return !is_burned(site);
}

/* A site of the table, with its address. What the kernel has written over its slot is none any more. */
static bool take_carried(u32 table, u32 index) {
    struct patch_entry *site = &sites[module.site_count];
    u32 stub = table - STUB_LENGTH;
    const struct patch_entry *before = module.site_count ? site - 1 : NULL;
    if (!read(table + sizeof(struct patch_table) + index * sizeof *site, site, sizeof *site))
        return false;
    site->address += table;
    site->owner = table & ~OWNER_INIT;
    if (site->length < 5 || site->length > MAX_INSTRUCTION || site->widening >= site->length ||
        site->address + site->length > stub || site->domain < DOMAIN_cpu || site->domain > DOMAIN_pagetable ||
        (before && before->address + before->length > site->address) || !is_slot(site))
        return false;
    site->entry = burn_entry(site, domains);
    module.site_count += calls_stub(site, stub) || is_burned(site);
    return true;
}

void modules_carried(u32 table) {
    struct patch_table header;
    memset(&module, 0, sizeof module);
    bool good = read(table, &header, sizeof header) && header.magic == PATCH_TABLE_MAGIC &&
                header.version == PATCH_TABLE_VERSION && header.entry_size == sizeof sites[0] &&
                header.count && header.count <= SITES;
    for (u32 i = 0; good && i < header.count; i++)
        good = take_carried(table, i);
    if (!good || !module.site_count || sites_are_kernels(sites[0].address, table))
        crash("a module that was burned ahead of time has a damaged table at %x", table);
    module.texts[module.text_count++] = (struct text){.start = sites[0].address, .end = table};
    sites_remove(lies_in_texts, NULL);
    if (module.site_count > sites_room())
        sites_remove(is_gone, NULL); /* nobody says when such a module goes */
    if (module.site_count > sites_room())
        crash("a module that was burned ahead of time has too many sites, %x", table);
    burn_sites();
}
