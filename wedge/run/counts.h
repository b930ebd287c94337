/*
 * What `previrt run --stats` and `--profile` tell: by domain the sites that were
 * executed, the traps that were taken, and the time in each; and where the
 * traps were taken. Only sites that come to C are seen.
 */
#ifndef PREVIRT_COUNTS_H
#define PREVIRT_COUNTS_H

#include "core/types.h"

/* From the boot file: COUNT_* (generated). */
void counts_start(u32 what);
/* When something began; 0 if nothing is counted. */
u64 counts_begin(void);
void count_site(u32 domain, u64 begun);
/* A trap by the instruction at `eip`. */
void count_trap(u32 domain, u32 eip, u64 begun);
/* Writes it all, as messages of which the launcher makes tables (src/targets/counts.ts). */
void counts_tell(void);

#endif
