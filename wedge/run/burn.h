/*
 * Burning in the wedge: modules as they are loaded, and a running kernel again.
 */
#ifndef PREVIRT_BURN_H
#define PREVIRT_BURN_H

#include "core/types.h"
#include "generated/run.h"

/* The entry for a site, or PATCH_NOT_BURNED; `domains` has bit 1 << DOMAIN_* for each that is to be burned. */
u16 burn_entry(const struct patch_entry *site, u32 domains);
/* The bytes of its slot, site->length of them, as site->entry says. */
void burn_slot(const struct patch_entry *site, u8 *slot);

/* The same for a call of any function. */
void burn_call(const struct patch_entry *site, u32 function, u8 *slot);

/* --- reburn.c --- */

/* Burns all sites of the running guest again, for these domains (bit 1 << DOMAIN_*), once its kernel is shown. */
void reburn(u32 domains);

/* Whether a slot is as it was burned. A copy may hold something else; if it does not, it is as good as the rest. */
bool site_holds(struct patch_entry *site);
/* Its steps: all original bytes; what is burned instead; and burning it. */
void sites_lift(void);
void sites_choose(u32 domains);
void sites_burn(void);

/* --- shown.c --- */

/* Whether the page tables in use show most of what sites are in. */
bool kernel_shown(void);
/* Does it between two instructions: now, if they do, or as soon as they do. There are no more than four such acts. */
void when_kernel_shown(void (*act)(void));

/* --- sweep.c --- */

struct instruction;
/* Whether an instruction of kernel code would do something else outside of ring 0, and not trap. */
bool sweep_finds(const struct instruction *instruction);

/* --- alternatives.c --- */

struct alternative {
    u32 target, target_length; /* what is replaced: guest-virtual, bytes */
    u32 replacement, length;   /* what is copied there */
};
/*
 * Takes up a table of alternatives, `size` bytes in guest memory, in the first
 * known form in which all of them are possible. False if there is none.
 */
bool alternatives_open(u32 table, u32 size, bool (*is_possible)(const struct alternative *));
/* One after the other; false after the last. */
bool alternatives_next(struct alternative *alternative);

#endif
