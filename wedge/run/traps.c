/*
 * Traps: what the real processor would not do for guest code, by vector. A
 * target takes the registers into the virtual CPU, calls here, and puts them
 * back.
 */

#include "burn.h"
#include "core/crash.h"
#include "core/decode.h"
#include "core/emulate.h"
#include "core/memory.h"
#include "counts.h"
#include "run.h"

static void deliver(u8 vector, bool has_error, u32 error) {
    cpu_deliver_exception(&(struct exception){.vector = vector, .has_error = has_error, .error = error});
}

static access_t user_access(void) { return cpu.cpl == 3 ? PF_USER : 0; }

/* As many of the bytes at EIP as can be read: an instruction may end at the last mapped page. */
static unsigned fetch(u8 bytes[MAX_INSTRUCTION]) {
    u32 at = cpu.segments[CS].base + cpu.eip;
    u32 first = PAGE_SIZE - (at & ~PAGE_MASK);
    access_t access = user_access();
    if (first >= MAX_INSTRUCTION)
        return guest_read(gva(at), bytes, MAX_INSTRUCTION, access) ? MAX_INSTRUCTION : 0;
    if (!guest_read(gva(at), bytes, first, access))
        return 0;
    return guest_read(gva(at + first), bytes + first, MAX_INSTRUCTION - first, access) ? MAX_INSTRUCTION : first;
}

/*
 * The site at EIP whose original a trapping instruction stands for; NULL if the
 * guest has written something else there meanwhile, which then counts.
 */
static const struct patch_entry *trapping_site(const u8 *bytes, unsigned count) {
    u32 moved;
    if (cpu.cpl || !count || bytes[0] != TRAPPING_BYTE)
        return NULL;
    const struct patch_entry *site = site_by_start(cpu.eip, &moved);
    if (!site || (site->entry != PATCH_TRAPS && site->entry != PATCH_COPY) || count < site->length)
        return NULL;
    return memcmp(bytes + 1, site->original + 1, site->length - 1) ? NULL : site;
}

/*
 * Where a kernel that was never annotated tells of a module: the site is the
 * first push of a function, or its return, and nothing of it is on the stack.
 */
static bool trap_announced(const struct patch_entry *site) {
    u8 opcode = site->original[0];
    u32 esp = cpu.gpr[ESP], top;
    if (!guest_read(gva(esp), &top, 4, 0))
        return false;
    bool runs = modules_announced(site->kind);
    if (!runs)
        cpu.gpr[EAX] = MODULE_REFUSED;
    if (!runs || opcode == 0xc3) {
        cpu.gpr[ESP] = esp + 4;
        cpu.eip = top;
        return true;
    }
    if (!guest_write(gva(esp - 4), &cpu.gpr[opcode & 7], 4, 0))
        return false;
    cpu.gpr[ESP] = esp - 4;
    cpu.eip += site->length;
    return true;
}

/* Of an instruction that the emulator knows. */
static u32 domain_of(const u8 *bytes, unsigned count) {
    struct instruction i;
    if (!decode(bytes, count, &i) || i.map)
        return DOMAIN_cpu;
    bool port = (i.opcode & 0xfc) == 0xe4 || (i.opcode & 0xfc) == 0xec || (i.opcode & 0xfc) == 0x6c;
    return port ? DOMAIN_portio : DOMAIN_cpu;
}

void trap_refused(u8 vector, bool has_error, u32 error) {
    u8 bytes[MAX_INSTRUCTION];
    u64 begun = counts_begin();
    u32 eip = cpu.eip;
    unsigned count = fetch(bytes);
    const struct patch_entry *site = trapping_site(bytes, count);
    if (site && site_announces(site)) {
        if (!trap_announced(site)) {
            struct exception cause = exception;
            cpu_deliver_exception(&cause);
        }
        return;
    }
    if (site) {
        memcpy(bytes, site->original, count = site->length);
        if (bytes[0] == 0xcf) /* iret */
            mmu_page_fault_over();
    }
    if (!count || emulate(bytes, count, 0) == OUTCOME_UNKNOWN)
        deliver(vector, has_error, error);
    else if (begun)
        count_trap(domain_of(bytes, count), eip, begun);
}

/* --- Events between two instructions --- */

/* An interrupt is being held back for the instruction after a shadow's; once, or a loop would hold it for ever. */
static bool shadow_held;

/*
 * Whether an interrupt has to wait for one more instruction: in the shadow of
 * the site that ends here, or in front of hlt, which must see it.
 */
static bool hold_interrupt(u32 eip) {
    u32 moved;
    if (cpu.cpl)
        return false;
    const struct patch_entry *site = site_by_start(eip, &moved);
    if (site && site->kind == KIND_hlt)
        return true;
    site = shadow_held ? NULL : site_by_end(eip, &moved);
    shadow_held = site && site_opens_shadow(site);
    return shadow_held;
}

bool event_may_interrupt(u32 eip, u32 flags) {
    u32 moved;
    shadow_held = false;
    if (!in_entry_code(eip) && !(cpu.cpl == 0 && site_by_start(eip, &moved)) && !hold_interrupt(eip))
        return true;
    /* Let the site finish; a trap follows at the next instruction boundary, the guest's own if it steps already. */
    if (!(flags & FLAG_TF))
        wedge_stepping = true;
    return false;
}

/* --- The traps, by their vector --- */

typedef void trap_handler(const struct trap *trap);

static void trap_fault(const struct trap *trap) {
    deliver(trap->vector, false, 0);
}

/* INT1, which is a #DB of its own (SDM vol. 2, INT n). */
static bool behind_icebp(void) {
    u8 opcode;
    return guest_read(gva(cpu.segments[CS].base + cpu.eip - 1), &opcode, 1, user_access()) && opcode == 0xf1;
}

static void trap_debug(const struct trap *trap) {
    (void)trap;
    bool ours = wedge_stepping;
    bool guests = (cpu.cpl == 3 && !ours && (cpu.eflags & FLAG_TF)) || (cpu.system_flags & FLAG_TF);
    if (ours && !guests && hold_interrupt(cpu.eip)) {
        cpu.shadow = 1;
        return;
    }
    wedge_stepping = shadow_held = false;
    if (guests)
        cpu.dr[6] |= 1u << 14; /* BS */
    else if (ours || !behind_icebp())
        return;
    deliver(VECTOR_DB, false, 0);
}

bool trap_software(u8 vector, u32 length) {
    if (cpu_software_interrupt(vector))
        return true;
    struct exception cause = exception;
    cpu.eip -= length;
    cpu_deliver_exception(&cause);
    return false;
}

static void trap_breakpoint(const struct trap *trap) {
    (void)trap;
    if (!port_access_ends(cpu.eip))
        trap_software(VECTOR_BP, 1);
}

static void trap_overflow(const struct trap *trap) {
    (void)trap;
    trap_software(VECTOR_OF, 1);
}

static void trap_undefined(const struct trap *trap) {
    (void)trap;
    trap_refused(VECTOR_UD, false, 0);
}

/* Segment faults: first the real registers may not yet be what the virtual ones say. */
static void trap_protection(const struct trap *trap) {
    if (!segments_apply(true))
        trap_refused(trap->vector, true, trap->error);
}

/* Where a device's registers are nothing is mapped. */
static void access_device(u32 address) {
    u8 bytes[MAX_INSTRUCTION];
    u64 begun = counts_begin();
    u32 eip = cpu.eip;
    if (emulate_memory(bytes, fetch(bytes), 0, false) == OUTCOME_UNKNOWN)
        crash("an access at %x to a device's registers at %x that cannot be emulated", eip, address);
    count_trap(DOMAIN_mmio, eip, begun);
}

static void trap_page_fault(const struct trap *trap) {
    access_t access = (trap->error & PF_WRITE) | user_access();
    if (segments_are_lazy() && segments_apply(true))
        return;
    if (mmu_fill(gva(trap->address), access)) {
        u8 bytes[MAX_INSTRUCTION];
        if (mmu_filled_device) {
            access_device(trap->address);
            return;
        }
        if (!port_unmappable(trap->address) || port_access(bytes, fetch(bytes), trap->address, access))
            return;
    }
    struct exception cause = exception;
    mmu_page_fault_begins(gva(trap->address));
    cpu_deliver_exception(&cause);
}

static void trap_alignment(const struct trap *trap) {
    (void)trap;
    deliver(VECTOR_AC, true, 0);
}

static trap_handler *const traps[20] = {
    [VECTOR_DE] = trap_fault,       [VECTOR_DB] = trap_debug,      [VECTOR_BP] = trap_breakpoint,
    [VECTOR_OF] = trap_overflow,    [VECTOR_BR] = trap_fault,      [VECTOR_UD] = trap_undefined,
    [VECTOR_NP] = trap_protection,  [VECTOR_SS] = trap_protection, [VECTOR_GP] = trap_protection,
    [VECTOR_PF] = trap_page_fault,  [VECTOR_MF] = trap_fault,      [VECTOR_AC] = trap_alignment,
    [VECTOR_XM] = trap_fault,
};

void trap_in_guest(const struct trap *trap) {
    trace(TRACE_TRAP, cpu.eip, trap->vector);
    trap_handler *handle = trap->vector < ARRAY_SIZE(traps) ? traps[trap->vector] : NULL;
    if (!handle)
        crash("trap %u in guest code", trap->vector);
    handle(trap);
}

/* --- Traps in entry code --- */

bool in_entry_code(u32 eip) { return eip >= ENTRY_BASE && eip < ENTRY_END; }

/* Code behind the entries, which accesses the kernel's memory only. */
static bool behind_entries(u32 eip) { return (eip - ENTRY_BASE) / ENTRY_SIZE >= ENTRY_COUNT; }

bool trap_only_fills(const struct trap *trap, u32 eip) {
    if (trap->vector != VECTOR_PF)
        return false;
    bool kernels = in_entry_code(eip) && behind_entries(eip);
    access_t access = (trap->error & PF_WRITE) | (kernels ? 0 : user_access());
    return mmu_fill(gva(trap->address), access) && !mmu_filled_device && !port_unmappable(trap->address);
}

void entry_step(u32 eip, u32 esp) {
    bool popf = *(const u8 *)(uptr)eip == 0x9d;
    if (popf && !behind_entries(eip))
        *(u32 *)(uptr)esp |= FLAG_TF;
}

/*
 * Takes back what an entry has pushed so far, its registers with it: from the
 * entry's start to the fault there are only pushes and what cannot fault.
 */
static void unwind_entry(u32 start, u32 fault) {
    static const u8 memory = 0xff;
    u8 pushed[8];
    unsigned count = 0;
    struct instruction instruction;
    for (u32 at = start; at < fault && at < start + ENTRY_SIZE; at += instruction.length) {
        if (!decode((const u8 *)(uptr)at, MAX_INSTRUCTION, &instruction))
            return;
        u8 opcode = instruction.opcode;
        bool push = (opcode & 0xf8) == 0x50 || opcode == 0x9c || (opcode == 0xff && instruction.reg == 6);
        if (instruction.map == 0 && push && count < ARRAY_SIZE(pushed))
            pushed[count++] = (opcode & 0xf8) == 0x50 ? opcode & 7 : memory;
    }
    while (count--) {
        u32 value = *(const u32 *)(uptr)cpu.gpr[ESP];
        cpu.gpr[ESP] += 4;
        if (pushed[count] != memory)
            cpu.gpr[pushed[count]] = value;
    }
}

void trap_in_entry(const struct trap *trap) {
    bool shared = behind_entries(cpu.eip);
    if (shared && control.entry == ENTRY_iret) {
        cpu.gpr[EAX] = control.kept_eax; /* it keeps them there, not on the stack */
        cpu.gpr[ECX] = control.kept_ecx;
    }
    if (trap->vector != VECTOR_PF || cpu.cpl == 3)
        crash("trap %u in an entry of the wedge, address %x", trap->vector, trap->address);
    u32 start = ENTRY_BASE + (shared ? control.entry : (cpu.eip - ENTRY_BASE) / ENTRY_SIZE) * ENTRY_SIZE;
    unwind_entry(start, cpu.eip);
    u32 end = *(const u32 *)(uptr)cpu.gpr[ESP];
    cpu.gpr[ESP] += 4;
    wedge_stepping = false;
    emulate_site(end);
}
