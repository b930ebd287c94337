/* Single accesses of the kernel and of user code, and what they leave in the page tables. */
#include "guest.h"

static u32 outcome(u32 value) {
    return result.vector == NO_VECTOR ? value : 0xfa000000 | (u32)result.vector << 8 | result.error;
}

u32 read_at(u32 address, bool user) {
    struct regs in = inputs(&codes[CODE_load]);
    in.esi = address;
    (user ? run_user : run)(&codes[CODE_load], &in);
    return outcome(result.regs.eax);
}

u32 write_at(u32 address, u32 value, bool user) {
    struct regs in = inputs(&codes[CODE_store]);
    in.esi = address;
    in.eax = value;
    (user ? run_user : run)(&codes[CODE_store], &in);
    return outcome(0);
}

const char *accessed_dirty(u32 entry) {
    static const char *const names[] = {"--", "A-", "-D", "AD"};
    return names[(entry & PTE_A ? 1 : 0) | (entry & PTE_D ? 2 : 0)];
}
