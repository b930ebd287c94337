/* A guest that starts: the machine as firmware and boot loader leave it. */

#include "core/cpu.h"
#include "core/emulate.h"
#include "devices/devices.h"
#include "generated/boot.h"
#include "run.h"

void start_guest(const struct boot_header *boot, struct patch_entry *sites) {
    sites_start(sites, boot->site_count, boot->link_offset);
    modules_start(boot->domains);
    cpu_reset();
    cpu_limit_features((const u32 *)boot->features, false);
    cpu.gpr[EAX] = boot->eax;
    cpu.gpr[EBX] = boot->ebx;
    cpu.gpr[ESI] = boot->esi;
    cpu.gpr[ESP] = boot->esp;
    cpu.eip = boot->entry;
    devices_reset(boot->ram_size);
}
