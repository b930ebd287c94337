/*
 * The 8254 interval timer (Intel 8254 data sheet, order number 231164),
 * computed from the time since each counter was loaded. Channel 0 drives
 * IRQ 0, channel 1 the memory refresh toggle of port 61, channel 2 the
 * speaker.
 *
 * The host may keep the guest from running for longer than a period. Guests
 * that count ticks would then lose time, so periods of modes 2 and 3 that
 * passed unseen are owed to the guest and paid out one after the other, each
 * as soon as the interrupt before it has been taken; but for no more than half
 * of the time, so that a guest that is owed much gets on meanwhile.
 */

#include "clock.h"
#include "internal.h"

enum {
    HERTZ = 1193182,
    FAST_PERIOD = 24, /* clocks, 20 us: ticks that come faster are delivered in groups */
};

enum { COMMAND_PORT = 3, READ_BACK = 3 };
enum { ACCESS_LATCH, ACCESS_LOW, ACCESS_HIGH, ACCESS_BOTH };

static struct i8254 *const pit = &machine_devices.i8254;

static bool is_periodic(const struct i8254_channel *c) { return c->mode == 2 || c->mode == 3; }
static bool needs_trigger(const struct i8254_channel *c) { return c->mode == 1 || c->mode == 5; }

static u32 from_bcd(u16 value) {
    return (value & 15) + 10 * (value >> 4 & 15) + 100 * (value >> 8 & 15) + 1000 * (u32)(value >> 12);
}

static u16 to_bcd(u32 value) {
    return (u16)(value % 10 | value / 10 % 10 << 4 | value / 100 % 10 << 8 | value / 1000 % 10 << 12);
}

static u32 modulus(const struct i8254_channel *c) { return c->bcd ? 10000 : 65536; }

/* Clocks that the count register stands for. */
static u32 period_of(const struct i8254_channel *c) {
    u32 count = c->bcd ? from_bcd(c->count) % 10000 : c->count;
    return count ? count : modulus(c);
}

static u32 high_half(u32 period) { return (period + 1) / 2; }

static u64 elapsed(const struct i8254_channel *c, u64 now) {
    return clocks_from_time(c->running ? now - c->start : c->held, HERTZ);
}

/* The counting element after `clocks`. */
static u32 counter(const struct i8254_channel *c, u64 clocks) {
    u32 phase;
    if (!is_periodic(c)) {
        divide(clocks, modulus(c), &phase);
        return (c->period + modulus(c) - phase) % modulus(c);
    }
    divide(clocks, c->period, &phase);
    if (c->mode == 2)
        return (c->period - phase) % modulus(c);
    if (phase >= high_half(c->period))
        phase -= high_half(c->period);
    return ((c->period & ~1u) - 2 * phase) % modulus(c);
}

static bool output(const struct i8254_channel *c, u64 clocks) {
    u32 phase;
    if (!c->loaded || (is_periodic(c) && !c->gate))
        return c->mode != 0;
    divide(clocks, c->period, &phase);
    switch (c->mode) {
    case 2:
        return phase != c->period - 1;
    case 3:
        return phase < high_half(c->period);
    case 4:
    case 5:
        return clocks != c->period;
    default:
        return clocks >= c->period;
    }
}

/* Rising edges of OUT within `clocks` of the load. */
static u64 rising_edges(const struct i8254_channel *c, u64 clocks) {
    u32 unused;
    if (!c->loaded)
        return 0;
    if (is_periodic(c))
        return divide(clocks, c->period, &unused);
    return clocks >= c->period + (c->mode >= 4);
}

/* Loads the counting element from the count register and begins to count if the gate lets it. */
static void load(struct i8254_channel *c, u64 start) {
    c->period = period_of(c);
    c->start = start;
    c->held = 0;
    c->edges = 0;
    c->reload_at = NEVER;
    c->loaded = 1;
    c->null_count = 0;
    c->running = c->gate || needs_trigger(c);
}

/* Applies a reload that is due. */
static void reload(struct i8254_channel *c, u64 now) {
    if (now < c->reload_at)
        return;
    u64 skipped = c->reload_low ? time_from_clocks(high_half(period_of(c)), HERTZ) : 0;
    load(c, c->reload_at - skipped);
}

/* Modes 2 and 3: the count takes effect at the end of the cycle, or half cycle, in progress. */
static void schedule_reload(struct i8254_channel *c, u64 now) {
    u32 phase;
    u64 clocks = elapsed(c, now);
    divide(clocks, c->period, &phase);
    c->reload_low = c->mode == 3 && phase < high_half(c->period);
    u32 end = c->reload_low ? high_half(c->period) : c->period;
    c->reload_at = c->start + time_from_clocks(clocks - phase + end, HERTZ);
}

/* Rising edges since they were last asked for. */
static u64 take_edges(struct i8254_channel *c, u64 now) {
    u64 edges = 0;
    if (now >= c->reload_at) {
        edges = rising_edges(c, elapsed(c, c->reload_at)) - c->edges;
        reload(c, now);
    }
    u64 total = rising_edges(c, elapsed(c, now));
    edges += total - c->edges;
    c->edges = total;
    return edges;
}

static void raise_timer_irq(void) {
    i8259_set_irq(IRQ_TIMER, false);
    i8259_set_irq(IRQ_TIMER, true);
}

static void set_backlog(const struct i8254_channel *c, u64 owed) {
    u32 unused;
    u64 limit = divide((u64)MOST_OWED * HERTZ, c->period, &unused);
    if (limit > ~(u32)0)
        limit = ~(u32)0;
    pit->backlog = owed < limit ? (u32)owed : (u32)limit;
}

static void set_deadline(const struct i8254_channel *c, u64 now) {
    pit->deadline = NEVER;
    if (!c->loaded || !c->running || needs_trigger(c) || i8259_timer_masked())
        return;
    if (is_periodic(c)) {
        u64 due = c->start + time_from_clocks((c->edges + 1) * c->period, HERTZ);
        if (c->reload_at < due)
            due = c->reload_at;
        u64 earliest = c->period < FAST_PERIOD ? now + time_from_clocks(FAST_PERIOD, HERTZ) : now;
        pit->deadline = due < earliest ? earliest : due;
    } else if (!c->edges) {
        pit->deadline = c->start + time_from_clocks(c->period + (c->mode >= 4), HERTZ);
    }
}

void i8254_run(u64 now) {
    struct i8254_channel *c = &pit->channels[0];
    u64 edges = take_edges(c, now);
    if (edges && !i8259_timer_requested()) {
        raise_timer_irq();
        edges--;
    }
    if (is_periodic(c) && !i8259_timer_masked())
        set_backlog(c, pit->backlog + edges);
    /* In modes 2 and 3 a low OUT does not withdraw the request: it would only join the backlog. */
    if (!is_periodic(c) || !c->loaded)
        i8259_set_irq(IRQ_TIMER, output(c, elapsed(c, now)));
    set_deadline(c, now);
}

/* What it missed then is owed even if it masks the interrupt, as Linux does while it handles one. */
void i8254_stood_still(u64 from, u64 to) {
    struct i8254_channel *c = &pit->channels[0];
    if (!is_periodic(c) || !c->loaded || !c->running || c->reload_at <= to)
        return;
    u64 edges = rising_edges(c, elapsed(c, to)) - rising_edges(c, elapsed(c, from));
    c->edges += edges;
    set_backlog(c, pit->backlog + edges);
}

/* What is owed is paid in turns, half a period long: one with each tick that is due, even if it comes a little early. */
static bool is_turn(u64 now) {
    static u64 begin;
    u64 half = time_from_clocks(pit->channels[0].period, HERTZ) / 2;
    if (now - begin >= half + half / 2)
        begin = now;
    return now - begin < half;
}

void i8254_acknowledged(void) {
    if (!pit->backlog || i8259_timer_requested() || !is_turn(port_time()))
        return;
    pit->backlog--;
    raise_timer_irq();
}

static void stop(struct i8254_channel *c, u64 now) {
    if (c->running)
        c->held = now - c->start;
    c->running = 0;
}

static void write_count(struct i8254_channel *c, u16 count, u64 now) {
    c->count = count;
    c->written = 1;
    c->null_count = 1;
    if (needs_trigger(c))
        return;
    if (is_periodic(c) && c->loaded && c->running)
        schedule_reload(c, now);
    else
        load(c, now);
}

static void write_counter(struct i8254_channel *c, u8 value, u64 now) {
    if (c->access == ACCESS_LOW) {
        write_count(c, value, now);
    } else if (c->access == ACCESS_HIGH) {
        write_count(c, (u16)(value << 8), now);
    } else if (c->write_high) {
        c->write_high = 0;
        write_count(c, (u16)(value << 8 | c->write_low), now);
    } else {
        c->write_high = 1;
        c->write_low = value;
        if (c->mode == 0) { /* the first byte stops counting and lowers OUT */
            stop(c, now);
            c->loaded = 0;
        }
    }
}

static void latch_count(struct i8254_channel *c, u64 now) {
    if (c->latched)
        return;
    u32 count = counter(c, elapsed(c, now));
    c->latch = c->bcd ? to_bcd(count) : (u16)count;
    c->latched = c->access == ACCESS_BOTH ? 2 : 1;
}

static void latch_status(struct i8254_channel *c, u64 now) {
    if (c->status_latched)
        return;
    c->status = (u8)(output(c, elapsed(c, now)) << 7 | c->null_count << 6 | c->access << 4 | c->mode << 1 | c->bcd);
    c->status_latched = 1;
}

static void read_back(u8 command, u64 now) {
    for (unsigned i = 0; i < 3; i++) {
        struct i8254_channel *c = &pit->channels[i];
        if (!(command >> 1 & 1 << i))
            continue;
        reload(c, now);
        if (!(command & 0x20))
            latch_count(c, now);
        if (!(command & 0x10))
            latch_status(c, now);
    }
}

static void write_mode(struct i8254_channel *c, u8 command, u64 now) {
    stop(c, now);
    c->access = command >> 4 & 3;
    c->mode = (command >> 1 & 7) > 5 ? (command >> 1 & 3) : (command >> 1 & 7);
    c->bcd = command & 1;
    c->loaded = 0;
    c->written = 0;
    c->null_count = 1;
    c->edges = 0;
    c->reload_at = NEVER;
    c->write_high = c->read_high = c->latched = c->status_latched = 0;
}

static void write_command(u8 command, u64 now) {
    unsigned select = command >> 6;
    if (select == READ_BACK) {
        read_back(command, now);
        return;
    }
    struct i8254_channel *c = &pit->channels[select];
    reload(c, now);
    if ((command >> 4 & 3) == ACCESS_LATCH) {
        latch_count(c, now);
    } else {
        write_mode(c, command, now);
        if (select == 0)
            pit->backlog = 0;
    }
}

void i8254_write(u16 port, u8 value) {
    u64 now = port_time();
    i8254_run(now);
    if ((port & 3) == COMMAND_PORT) {
        write_command(value, now);
    } else {
        reload(&pit->channels[port & 3], now);
        write_counter(&pit->channels[port & 3], value, now);
    }
    i8254_run(now);
}

u8 i8254_read(u16 port) {
    u64 now = port_time();
    if ((port & 3) == COMMAND_PORT)
        return 0xff;
    if ((port & 3) == 0)
        i8254_run(now);
    struct i8254_channel *c = &pit->channels[port & 3];
    if (c->status_latched) {
        c->status_latched = 0;
        return c->status;
    }
    reload(c, now);
    u16 count = c->latch;
    if (c->latched) {
        c->latched--;
    } else {
        u32 live = counter(c, elapsed(c, now));
        count = c->bcd ? to_bcd(live) : (u16)live;
    }
    bool high = c->access == ACCESS_HIGH || (c->access == ACCESS_BOTH && c->read_high);
    c->read_high = c->access == ACCESS_BOTH && !c->read_high;
    return (u8)(high ? count >> 8 : count);
}

void i8254_set_speaker_gate(bool level) {
    struct i8254_channel *c = &pit->channels[2];
    u64 now = port_time();
    if (level == c->gate)
        return;
    reload(c, now);
    c->gate = level;
    if (needs_trigger(c)) {
        if (level && c->written)
            load(c, now);
    } else if (!level) {
        stop(c, now);
    } else if (is_periodic(c) && c->loaded) {
        load(c, now);
    } else if (c->loaded) {
        c->start = now - c->held;
        c->running = 1;
    }
}

bool i8254_speaker_output(void) {
    struct i8254_channel *c = &pit->channels[2];
    u64 now = port_time();
    reload(c, now);
    return output(c, elapsed(c, now));
}

bool i8254_refresh_toggle(void) {
    struct i8254_channel *c = &pit->channels[1];
    u64 now = port_time();
    reload(c, now);
    return rising_edges(c, elapsed(c, now)) & 1;
}

/* As firmware leaves it: ticks of 18.2 Hz, refresh every 15 us, speaker silent. */
void i8254_reset(void) {
    static const struct {
        u8 mode;
        u16 count;
        u8 gate;
    } firmware[3] = {{2, 0, 1}, {2, 18, 1}, {3, 0, 0}};
    u64 now = port_time();
    *pit = (struct i8254){.deadline = NEVER};
    for (unsigned i = 0; i < 3; i++) {
        struct i8254_channel *c = &pit->channels[i];
        c->mode = firmware[i].mode;
        c->count = firmware[i].count;
        c->gate = firmware[i].gate;
        c->access = ACCESS_BOTH;
        load(c, now);
    }
    i8254_run(now);
}
