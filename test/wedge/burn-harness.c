/* Reads domains and patch entries, binary; writes for each the entry that the wedge chooses and its slot of 16 bytes. */

#include <stdio.h>
#include <string.h>

#include "run/burn.h"

int main(void) {
    u32 domains;
    struct patch_entry site;
    if (fread(&domains, sizeof domains, 1, stdin) != 1)
        return 1;
    while (fread(&site, sizeof site, 1, stdin) == 1) {
        u8 slot[16] = {0};
        site.entry = burn_entry(&site, domains);
        burn_slot(&site, slot);
        fwrite(&site.entry, sizeof site.entry, 1, stdout);
        fwrite(slot, sizeof slot, 1, stdout);
    }
    return 0;
}
