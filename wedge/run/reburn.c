/*
 * Burning a running guest again, for other domains or another target. It
 * stands between two of its instructions: all sites get their original bytes
 * back, then those of the domains asked for are burned.
 *
 * A slot is one instruction before and after, so no saved EIP points inside;
 * where NOPs widen it that is so only while it is burned, and one that is not
 * stays as it is. What the guest itself has written over a slot is left alone.
 */

#include "burn.h"
#include "core/cpu.h"
#include "core/crash.h"
#include "core/port.h"
#include "mmu/mmu.h"
#include "run.h"

static struct {
    u32 domains;
    u32 sites;   /* that have been burned or left, as asked */
    u32 changed; /* of them, those that were not so before */
    u32 guests;  /* slots that hold the guest's own changes */
} work;

bool site_holds(struct patch_entry *site) {
    u8 expected[sizeof site->original], found[sizeof site->original];
    if (site->entry == PATCH_COPY)
        site->entry = PATCH_TRAPS;
    burn_slot(site, expected);
    return guest_read(gva(site->address), found, site->length, 0) && !memcmp(found, expected, site->length);
}

static void write_slot(const struct patch_entry *site) {
    u8 slot[sizeof site->original];
    burn_slot(site, slot);
    guest_patch(gva(site->address), slot, site->length);
}

/* The original bytes are there from now on; `next` is what was, or PATCH_GUESTS. */
static void lift(struct patch_entry *site) {
    u16 before = site->entry;
    site->next = PATCH_GUESTS;
    if (!site_holds(site)) {
        site->entry = before;
        work.guests++;
        return;
    }
    work.sites++;
    site->next = site->entry;
    site->entry = PATCH_NOT_BURNED;
    if (site->next != PATCH_NOT_BURNED)
        write_slot(site);
}

static void choose(struct patch_entry *site) {
    bool fixed = site->next == PATCH_GUESTS || site->next == PATCH_TRAPS ||
                 ((site->flags & SITE_interiorBoundary) && site->next == PATCH_NOT_BURNED);
    if (fixed)
        return;
    u16 before = site->next;
    site->next = burn_entry(site, work.domains);
    work.changed += site->next != before;
}

static void burn(struct patch_entry *site) {
    if (site->next == PATCH_GUESTS || site->next == site->entry)
        return;
    site->entry = site->next;
    write_slot(site);
}

static void check(struct patch_entry *site) {
    if (site->next != PATCH_GUESTS && !site_holds(site))
        crash("the site at %x is not as it was burned", site->address);
}

void sites_lift(void) {
    memset(&work, 0, sizeof work);
    sites_each(lift);
}

void sites_burn(void) {
    sites_each(burn);
    sites_each(check);
}

void sites_choose(u32 domains) {
    work.domains = domains;
    sites_each(choose);
    modules_start(domains);
}

static u32 asked_for;

static void reburn_now(void) {
    u64 start = port_time();
    u32 domains = asked_for;
    sites_lift();
    sites_choose(domains);
    sites_burn();
    report("previrt: burned again for domains %x: %u sites, %u of them changed, %u hold the guest's own changes, %u us",
           domains, work.sites, work.changed, work.guests, (u32)((port_time() - start) / 1000));
}

void reburn(u32 domains) {
    if (!(cpu.cr0 & CR0_PG) || !(domains >> DOMAIN_cpu & 1)) {
        report("previrt: not burned again: %s",
               cpu.cr0 & CR0_PG ? "domain cpu cannot be left out" : "the kernel has no paging yet");
        return;
    }
    asked_for = domains;
    when_kernel_shown(reburn_now);
}
