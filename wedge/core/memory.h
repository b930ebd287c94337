/*
 * Accesses to memory that are done in place of the processor: those of burned
 * sites in the domains of memory, and those that trap because a device's
 * registers are there.
 */
#ifndef PREVIRT_MEMORY_H
#define PREVIRT_MEMORY_H

#include "emulate.h"
#include "types.h"

/*
 * Carries out the instruction in `bytes` at cpu.eip as `emulate` does. It must be one
 * that accesses memory by an operand of its own. `changes_tables`: what it
 * writes to is an entry of the guest's page tables.
 */
enum outcome emulate_memory(const u8 *bytes, unsigned count, unsigned length, bool changes_tables);

#endif
