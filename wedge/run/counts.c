/* Counts of sites and traps, and where the traps are. */

#include "counts.h"

#include "core/cpu.h"
#include "core/emulate.h"
#include "core/port.h"
#include "generated/run.h"
#include "mmu/mmu.h"

#define DOMAINS 8u

static struct domain {
    u64 sites, site_cycles;
    u64 traps, trap_cycles;
} domains[DOMAINS];

/* By the instruction's address, which is not 0. */
static struct place {
    u32 eip, domain;
    u64 count, cycles;
} places[4096];

static u32 counted;
static u64 started;      /* cycles */
static u64 started_time; /* nanoseconds of guest time */

void counts_start(u32 what) {
    counted = what;
    started = port_tsc();
    started_time = port_time();
    mmu_counts_late = what;
}

u64 counts_begin(void) { return counted ? port_tsc() : 0; }

void count_site(u32 domain, u64 begun) {
    if (likely(!counted))
        return;
    domains[domain % DOMAINS].sites++;
    domains[domain % DOMAINS].site_cycles += port_tsc() - begun;
}

/* What does not fit any more is not told. */
static struct place *place_of(u32 eip) {
    for (u32 n = 0, at = eip * 2654435761u >> 20; n < ARRAY_SIZE(places); n++, at++) {
        struct place *place = &places[at % ARRAY_SIZE(places)];
        if (!place->eip || place->eip == eip)
            return place;
    }
    return NULL;
}

void count_trap(u32 domain, u32 eip, u64 begun) {
    if (likely(!counted))
        return;
    u64 cycles = port_tsc() - begun;
    domains[domain % DOMAINS].traps++;
    domains[domain % DOMAINS].trap_cycles += cycles;
    struct place *place = counted & COUNT_PLACES ? place_of(eip) : NULL;
    if (!place)
        return;
    place->eip = eip;
    place->domain = domain;
    place->count++;
    place->cycles += cycles;
}

/* --- Telling: words of a line, numbers in hexadecimal --- */

static char line[160];
static u32 length;

static void put_word(const char *word) {
    if (length)
        line[length++] = ' ';
    while (*word && length < sizeof line - 20)
        line[length++] = *word++;
}

static void put_number(u64 value) {
    char digits[17], *at = digits + 16;
    *at = 0;
    do
        *--at = "0123456789abcdef"[value & 15];
    while (value >>= 4);
    put_word(at);
}

static void end_line(void) {
    line[length++] = '\n';
    line[length] = 0;
    length = 0;
    port_message(line);
}

void counts_tell(void) {
    if (!counted)
        return;
    put_word(COUNT_MARK " clock");
    put_number(port_tsc() - started);
    put_number(port_time() - started_time);
    end_line();
    for (u32 i = 1; i < DOMAINS; i++) {
        const struct domain *domain = &domains[i];
        put_word(COUNT_MARK " domain");
        put_number(i);
        put_number(domain->sites);
        put_number(domain->site_cycles);
        put_number(domain->traps);
        put_number(domain->trap_cycles);
        put_number(i == DOMAIN_pagetable ? mmu_late : 0);
        end_line();
    }
    for (u32 i = 0; i < ARRAY_SIZE(places); i++) {
        if (!places[i].eip)
            continue;
        put_word(COUNT_MARK " place");
        put_number(places[i].eip);
        put_number(places[i].domain);
        put_number(places[i].count);
        put_number(places[i].cycles);
        end_line();
    }
    counted = 0;
}
