/*
 * Burning as src/substitution does it: which entry a site calls, and the bytes
 * of the call. Data in, data out; the tables are generated.
 */

#include "burn.h"

#include "generated/burn.h"

/* The whole original instruction, without what widens the slot. */
static bool matches(const struct patch_entry *site, u32 pattern) {
    u32 length = site->length - site->widening;
    return hot_patterns[pattern].kind == site->kind && hot_patterns[pattern].length == length &&
           !memcmp(hot_patterns[pattern].bytes, site->original + site->widening, length);
}

u16 burn_entry(const struct patch_entry *site, u32 domains) {
    if (!(domains >> site->domain & 1))
        return PATCH_NOT_BURNED;
    for (u32 i = 0; i < ARRAY_SIZE(hot_patterns); i++)
        if (matches(site, i))
            return hot_patterns[i].entry;
    return ENTRY_emulate;
}

/* `target` is what the form's field has. */
static void fill(u8 *slot, u32 length, const struct call_form *form, u32 target) {
    u32 field = length - 4, start = field - form->length;
    memset(slot, SLOT_FILLER, start);
    memcpy(slot + start, form->opcode, form->length);
    memcpy(slot + field, &target, 4);
}

void burn_call(const struct patch_entry *site, u32 function, u8 *slot) {
    fill(slot, site->length, &call_relative, function - (site->address + site->length));
}

void burn_slot(const struct patch_entry *site, u8 *slot) {
    memcpy(slot, site->original, site->length);
    if (site->entry == PATCH_TRAPS)
        slot[0] = TRAPPING_BYTE;
    if (site->entry == PATCH_TRAPS || site->entry == PATCH_NOT_BURNED)
        return;
    if (site->flags & SITE_absolute)
        fill(slot, site->length, &call_absolute, POINTER_PAGE + site->entry * 4);
    else
        burn_call(site, ENTRY_BASE + site->entry * ENTRY_SIZE, slot);
}
