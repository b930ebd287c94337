/*
 * Machine state (src/machine/state.ts): what the hardware would hold, and
 * nothing that the wedge can make again.
 */

#include "state.h"

#include "burn.h"
#include "core/cpu.h"
#include "core/crash.h"
#include "core/emulate.h"
#include "core/port.h"
#include "devices/devices.h"
#include "mmu/mmu.h"
#include "run.h"

static struct machine_state state;
static bool asked, stopped;

static void take(void) {
    memset(&state, 0, sizeof state);
    state.magic = STATE_MAGIC;
    state.version = STATE_VERSION;
    state.pc_version = VIRTUAL_PC_VERSION;
    state.ram_size = port_ram_size();
    state.time = port_time();
    state.wall_time = port_wall_time();
    state.tsc = port_tsc() + cpu.tsc_offset;
    state.cpu = cpu;
    state.cpu.pending = state.cpu.return_work = 0;
    state.cpu.tsc_offset = 0;
    state.devices = machine_devices;
    cpu_features(state.features);
    fpu_take(&state);
}

void state_features(bool all) {
    static const u32 any[ARRAY_SIZE(feature_words)] = {[0 ... ARRAY_SIZE(feature_words) - 1] = ~0u};
    u32 words[ARRAY_SIZE(feature_words)];
    if (all)
        cpu_limit_features(any, false);
    cpu_features(words);
    _Static_assert(ARRAY_SIZE(words) == 8, "as many are told");
    report("previrt: features %x %x %x %x %x %x %x %x", words[0], words[1], words[2], words[3], words[4], words[5],
           words[6], words[7]);
}

void state_log_end(void) {
    log_end();
    report("previrt: logs no more");
}

void state_log(void) {
    if (!port_can_show()) {
        state_log_end();
        return;
    }
    const struct state_piece piece = {log_bytes(), log_size()};
    port_show_log(&piece);
    log_begin();
}

static void stop_now(void) {
    if (!asked)
        return;
    asked = false;
    sites_lift();
    take();
    const struct patch_entry *kernels, *modules;
    state.site_count = sites_of_kernel(&kernels, &state.link_offset);
    state.module_site_count = sites_of_modules(&modules);
    const struct state_piece pieces[] = {
        {&state, sizeof state},
        {kernels, state.site_count * sizeof *kernels},
        {modules, state.module_site_count * sizeof *modules},
        {log_bytes(), log_kept ? log_size() : 0},
    };
    /* The beginning of a line, before another wedge writes its end. */
    console_flush();
    port_show_state(pieces, ARRAY_SIZE(pieces));
    for (stopped = true; stopped;) {
        port_wait_input();
        console_input(true);
    }
    devices_stood_still(state.time, port_time());
    log_end();
    port_hide_state();
    sites_burn();
    report("previrt: goes on");
}

void state_stop(void) {
    if (!(cpu.cr0 & CR0_PG)) {
        report("previrt: not stopped: the kernel has no paging yet");
        return;
    }
    if (!port_can_show()) {
        report("previrt: not stopped: the guest's memory is too large to be shown from here");
        return;
    }
    asked = true;
    when_kernel_shown(stop_now);
}

void state_go_on(void) { asked = stopped = false; }

static u32 resumed_domains;

/* As if it were the guest's own; whether it is shows in memory, and that may not be shown yet. */
static void arrive(struct patch_entry *site) { site->next = PATCH_GUESTS; }

/* As sites_lift leaves one. What a guest that never had a wedge has changed itself shows only in its memory. */
static void is_lifted(struct patch_entry *site) {
    u16 was = site->entry;
    if (site->next != PATCH_GUESTS || was == PATCH_COPY) /* not copied yet */
        return;
    site->entry = PATCH_NOT_BURNED;
    if (site_holds(site))
        site->next = was == PATCH_TRAPS ? PATCH_TRAPS : PATCH_NOT_BURNED;
    else if (was == PATCH_TRAPS)
        site->entry = was;
}

/* Those that the page tables show; a second time, the others. */
static void take_sites(void) {
    sites_each(is_lifted);
    sites_choose(resumed_domains);
    sites_burn();
}

static __attribute__((noreturn)) void cannot(const char *why) {
    report("previrt: %s", why);
    console_end(STATUS_HOST);
}

void state_resume(const struct machine_state *from, struct patch_entry *sites, u32 domains) {
    u64 wall = port_wall_time(), passed = wall > from->wall_time ? wall - from->wall_time : 0;
    if (from->module_site_count > sites_room())
        cannot("the guest's modules have more sites than there is room for");
    cpu = from->cpu;
    guest_came = true;
    if (!cpu_limit_features(from->features, true))
        console_end(STATUS_HOST);
    machine_devices = from->devices;
    port_set_time(from->time + passed);
    devices_stood_still(from->time, from->time + passed);
    cpu.tsc_offset = from->tsc - port_tsc();
    sites_start(sites, from->site_count, from->link_offset);
    sites_add(sites + from->site_count, from->module_site_count);
    mmu_mode_changed();
    resumed_domains = domains;
    sites_each(arrive);
    take_sites();
    if (!kernel_shown())
        when_kernel_shown(take_sites);
    attention = 1;
    if (!fpu_put(from))
        cannot("this processor lacks vector registers that the guest uses");
    report("previrt: goes on");
}
