/* Machine state: the guest stopped between two instructions, and taken up again. */
#ifndef PREVIRT_STATE_H
#define PREVIRT_STATE_H

#include "core/types.h"
#include "generated/machine-state.h"
#include "generated/run.h"

/* A piece of what is told, as it lies in the wedge's memory. */
struct state_piece {
    const void *at;
    u32 size;
};

/*
 * Stops the guest with all original bytes in its RAM, tells its state, and
 * waits to be told to go on (state_go_on) or to end.
 */
void state_stop(void);
void state_go_on(void);

/*
 * Shows which pages of RAM have been written to since this was asked last, and
 * begins anew; the first time there is nothing to show. A stop shows it too,
 * behind the state, and a guest that goes on then keeps no log any more.
 */
void state_log(void);
/* Tells what user code can see of the processor; `all` before there is a guest: all that it could. */
void state_features(bool all);
void state_log_end(void);

/*
 * Takes up a guest: RAM holds what belongs there, `sites` are its patch table,
 * the kernel's and behind them its modules'. Ends the run if this processor lacks something.
 */
void state_resume(const struct machine_state *state, struct patch_entry *sites, u32 domains);

/* fpu.c. False: this processor has not all that is in use. */
void fpu_take(struct machine_state *state);
bool fpu_put(const struct machine_state *state);

/* --- What a target provides --- */

/* Where the state of the FPU is kept, as FXSAVE or XSAVE leave it, if not in the processor: else NULL. */
const void *port_fpu_kept(void);
/* Whether there is room for showing anything. */
bool port_can_show(void);
/* Tells the launcher where to find the pieces, which follow each other. */
void port_show_state(const struct state_piece *pieces, u32 count);
/* The same for the log, while the guest runs. */
void port_show_log(const struct state_piece *piece);
/* The guest goes on: what was told no longer holds. */
void port_hide_state(void);
/* Waits until there is input. */
void port_wait_input(void);
/* From now on guest time is `time`. */
void port_set_time(u64 time);

#endif
