/*
 * The MC146818 real-time clock (Motorola data sheet; register 32, the
 * century, is the PC's addition).
 *
 * The time of day is the host's wall clock plus what the guest has set. While
 * the clock stands still (bit SET, or the divider held in reset) its registers
 * are plain memory. Interrupts and flags are computed when someone looks.
 * Daylight saving (bit DSE) is ignored, as later parts of this family do.
 */

#include "clock.h"
#include "internal.h"

enum {
    SECONDS = 0x00,
    SECONDS_ALARM = 0x01,
    MINUTES = 0x02,
    MINUTES_ALARM = 0x03,
    HOURS = 0x04,
    HOURS_ALARM = 0x05,
    DAY_OF_WEEK = 0x06,
    DAY_OF_MONTH = 0x07,
    MONTH = 0x08,
    YEAR = 0x09,
    REGISTER_A = 0x0a,
    REGISTER_B = 0x0b,
    REGISTER_C = 0x0c,
    REGISTER_D = 0x0d,
    CENTURY = 0x32,
};

enum {
    A_RATE = 0x0f,
    A_DIVIDER = 0x70,
    A_DIVIDER_32K = 0x20,
    A_UIP = 0x80,
    B_24_HOURS = 0x02,
    B_BINARY = 0x04,
    B_SET = 0x80,
    FLAG_UPDATE = 0x10, /* at the same place in B (enable) and C (flag) */
    FLAG_ALARM = 0x20,
    FLAG_PERIODIC = 0x40,
    FLAGS = 0x70,
    C_IRQ = 0x80,
    D_VALID = 0x80,
    PM = 0x80,
    ALARM_ANY = 0xc0, /* both bits set: every hour, minute or second */
};

enum {
    CRYSTAL = 32768,
    UPDATE_NOTICE = 244140, /* nanoseconds that UIP comes before the update */
    DAY = 86400,
};

/*
 * Times of day are counted in unsigned nanoseconds from 285 years before
 * 1970, so that a guest may set its clock to long ago.
 */
#define DAYS_BEFORE_1970 104166u
#define ORIGIN ((u64)DAYS_BEFORE_1970 * DAY * NANOSECONDS)
/* Days from 0000-03-01 (proleptic Gregorian) to the origin. */
#define ORIGIN_DAY (719468u - DAYS_BEFORE_1970)
#define ERA_DAYS 146097u /* of 400 years */

static struct mc146818 *const rtc = &machine_devices.mc146818;

struct date {
    u32 year, month, day;
};

/* Years begin in March here, so that the leap day is their last. */
static struct date date_from_days(u32 days) {
    u32 era = days / ERA_DAYS, day = days % ERA_DAYS;
    u32 century = day / 36524 < 4 ? day / 36524 : 3;
    day -= century * 36524;
    u32 quad = day / 1461;
    day -= quad * 1461;
    u32 year = day / 365 < 4 ? day / 365 : 3;
    day -= year * 365;
    u32 month = (5 * day + 2) / 153;
    u32 full = era * 400 + century * 100 + quad * 4 + year;
    return (struct date){
        .year = full + (month >= 10),
        .month = month < 10 ? month + 3 : month - 9,
        .day = day - (153 * month + 2) / 5 + 1,
    };
}

static u32 days_from_date(struct date date) {
    u32 month = (date.month + 9) % 12;
    u32 year = date.year - (month >= 10);
    return year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + date.day - 1;
}

static bool divider_runs(void) { return (rtc->ram[REGISTER_A] & A_DIVIDER) <= A_DIVIDER_32K; }
static bool clock_runs(void) { return divider_runs() && !(rtc->ram[REGISTER_B] & B_SET); }

static u64 clock_time(void) { return port_wall_time() + (u64)rtc->offset + ORIGIN; }

/* Whole seconds since the origin, and the nanoseconds beyond. */
static u64 clock_second(u32 *fraction) { return divide(clock_time(), NANOSECONDS, fraction); }

static void set_clock(u64 second, u32 fraction) {
    rtc->offset = (s64)(second * NANOSECONDS + fraction - ORIGIN - port_wall_time());
    rtc->second = second;
}

static u8 encode(u32 value) {
    return (u8)(rtc->ram[REGISTER_B] & B_BINARY ? value : value % 10 | value / 10 % 10 << 4);
}

static u32 decode(u8 value) {
    return rtc->ram[REGISTER_B] & B_BINARY ? value : (value & 15) + 10u * (value >> 4);
}

static u8 encode_hour(u32 hour) {
    if (rtc->ram[REGISTER_B] & B_24_HOURS)
        return encode(hour);
    u32 of_twelve = hour % 12 ? hour % 12 : 12;
    return encode(of_twelve) | (hour >= 12 ? PM : 0);
}

static u32 decode_hour(u8 value) {
    if (rtc->ram[REGISTER_B] & B_24_HOURS)
        return decode(value);
    return decode(value & ~PM) % 12 + (value & PM ? 12 : 0);
}

/* Fills the time registers with a second since the origin. */
static void store_time(u64 second) {
    u32 of_day;
    u32 days = (u32)divide(second, DAY, &of_day);
    struct date date = date_from_days(days + ORIGIN_DAY);
    rtc->ram[SECONDS] = encode(of_day % 60);
    rtc->ram[MINUTES] = encode(of_day / 60 % 60);
    rtc->ram[HOURS] = encode_hour(of_day / 3600);
    rtc->ram[DAY_OF_WEEK] = encode((days + ORIGIN_DAY + 3) % 7 + 1); /* 0000-03-01 was a Wednesday; Sunday is 1 */
    rtc->ram[DAY_OF_MONTH] = encode(date.day);
    rtc->ram[MONTH] = encode(date.month);
    rtc->ram[YEAR] = encode(date.year % 100);
    rtc->ram[CENTURY] = encode(date.year / 100);
}

/* The second that the time registers hold. */
static u64 load_time(void) {
    struct date date = {
        .year = decode(rtc->ram[CENTURY]) * 100 + decode(rtc->ram[YEAR]),
        .month = decode(rtc->ram[MONTH]),
        .day = decode(rtc->ram[DAY_OF_MONTH]),
    };
    u32 earliest = 1970 - 280, latest = 1970 + 280; /* what the offset can hold */
    date.year = date.year < earliest ? earliest : date.year > latest ? latest : date.year;
    return (u64)(days_from_date(date) - ORIGIN_DAY) * DAY + decode_hour(rtc->ram[HOURS]) * 3600 +
           decode(rtc->ram[MINUTES]) * 60 + decode(rtc->ram[SECONDS]);
}

static bool alarm_matches(u32 of_day) {
    const u8 *ram = rtc->ram;
    return (ram[SECONDS_ALARM] >= ALARM_ANY || decode(ram[SECONDS_ALARM]) == of_day % 60) &&
           (ram[MINUTES_ALARM] >= ALARM_ANY || decode(ram[MINUTES_ALARM]) == of_day / 60 % 60) &&
           ((ram[HOURS_ALARM] & ALARM_ANY) == ALARM_ANY || decode_hour(ram[HOURS_ALARM]) == of_day / 3600);
}

/* Did the alarm go off in the seconds (after, until]? */
static bool alarm_between(u64 after, u64 until) {
    if (until - after > DAY)
        after = until - DAY;
    for (u64 second = after + 1; second <= until; second++) {
        u32 of_day;
        divide(second, DAY, &of_day);
        if (alarm_matches(of_day))
            return true;
    }
    return false;
}

/* Shift from the 32768 Hz clock to the periodic rate (data sheet, table 5), or -1. */
static int periodic_shift(void) {
    int rate = rtc->ram[REGISTER_A] & A_RATE;
    if (!rate || !divider_runs())
        return -1;
    return rate <= 2 ? rate + 6 : rate - 1;
}

static void update_irq(void) {
    bool irq = rtc->ram[REGISTER_C] & rtc->ram[REGISTER_B] & FLAGS;
    rtc->ram[REGISTER_C] = (rtc->ram[REGISTER_C] & FLAGS) | (irq ? C_IRQ : 0);
    i8259_set_irq(IRQ_RTC, irq);
}

static void set_deadline(u64 now) {
    u8 enabled = rtc->ram[REGISTER_B];
    int shift = periodic_shift();
    rtc->deadline = NEVER;
    if (rtc->ram[REGISTER_C] & C_IRQ)
        return; /* the line is up: nothing more to say until C is read */
    if (enabled & (FLAG_UPDATE | FLAG_ALARM) && clock_runs()) {
        u32 fraction;
        clock_second(&fraction);
        rtc->deadline = now + NANOSECONDS - fraction;
    }
    if (enabled & FLAG_PERIODIC && shift >= 0) {
        u64 due = time_from_clocks((rtc->periodic + 1) << shift, CRYSTAL);
        if (due < rtc->deadline)
            rtc->deadline = due;
    }
}

void mc146818_run(u64 now) {
    u8 *flags = &rtc->ram[REGISTER_C];
    int shift = periodic_shift();
    if (shift >= 0) {
        u64 tick = clocks_from_time(now, CRYSTAL) >> shift;
        if (tick > rtc->periodic)
            *flags |= FLAG_PERIODIC;
        rtc->periodic = tick;
    }
    if (clock_runs()) {
        u32 fraction;
        u64 second = clock_second(&fraction);
        if (second > rtc->second) {
            *flags |= FLAG_UPDATE;
            if (alarm_between(rtc->second, second))
                *flags |= FLAG_ALARM;
        }
        rtc->second = second;
    }
    update_irq();
    set_deadline(now);
}

static bool is_time(u8 index) {
    return index == CENTURY || (index <= YEAR && index != SECONDS_ALARM && index != MINUTES_ALARM && index != HOURS_ALARM);
}

static u8 read_register_a(void) {
    u32 fraction;
    clock_second(&fraction);
    bool updating = clock_runs() && fraction >= NANOSECONDS - UPDATE_NOTICE;
    return rtc->ram[REGISTER_A] | (updating ? A_UIP : 0);
}

static u8 read_register_c(u64 now) {
    u8 flags = rtc->ram[REGISTER_C];
    rtc->ram[REGISTER_C] = 0;
    update_irq();
    set_deadline(now);
    return flags;
}

/* A change of A or B may stop the clock or let it go on. */
static void write_control(u8 index, u8 value, u64 now) {
    bool ran = clock_runs(), divided = divider_runs();
    u32 fraction;
    u64 second = clock_second(&fraction);
    if (ran)
        store_time(second);
    rtc->ram[index] = value;
    rtc->periodic = clocks_from_time(now, CRYSTAL) >> (periodic_shift() < 0 ? 0 : periodic_shift());
    if (ran && clock_runs())
        return; /* which is also how a new format takes hold of the alarm only */
    if (!divided && divider_runs())
        fraction = NANOSECONDS / 2; /* the first update follows half a second after the divider is released */
    if (clock_runs())
        set_clock(load_time(), fraction);
    else if (!divided)
        set_clock(second, fraction);
}

static void write_register(u8 index, u8 value, u64 now) {
    switch (index) {
    case REGISTER_A:
        write_control(index, value & ~A_UIP, now);
        break;
    case REGISTER_B:
        write_control(index, value & B_SET ? value & ~FLAG_UPDATE : value, now);
        break;
    case REGISTER_C:
    case REGISTER_D:
        break;
    default:
        if (is_time(index) && clock_runs()) {
            u32 fraction;
            store_time(clock_second(&fraction));
            rtc->ram[index] = value;
            set_clock(load_time(), fraction);
        } else {
            rtc->ram[index] = value;
        }
    }
}

u8 mc146818_read(u16 port) {
    if (!(port & 1))
        return 0xff;
    u64 now = port_time();
    u32 fraction;
    mc146818_run(now);
    if (rtc->index == REGISTER_A)
        return read_register_a();
    if (rtc->index == REGISTER_C)
        return read_register_c(now);
    if (is_time(rtc->index) && clock_runs())
        store_time(clock_second(&fraction));
    return rtc->ram[rtc->index];
}

void mc146818_write(u16 port, u8 value) {
    if (!(port & 1)) {
        rtc->index = value & 0x7f; /* bit 7 masks NMI, of which there is none */
        return;
    }
    u64 now = port_time();
    mc146818_run(now);
    write_register(rtc->index, value, now);
    mc146818_run(now);
}

static void store_word(u8 index, u64 value) {
    u32 word = value < 0xffff ? (u32)value : 0xffff;
    rtc->ram[index] = (u8)word;
    rtc->ram[index + 1] = (u8)(word >> 8);
}

void mc146818_reset(u64 ram) {
    enum { KIB = 1024, MIB = 1 << 20, EQUIPMENT = 0x14, CHECKSUM = 0x2e };
    *rtc = (struct mc146818){.deadline = NEVER};
    rtc->ram[REGISTER_A] = A_DIVIDER_32K | 6; /* 1024 Hz */
    rtc->ram[REGISTER_B] = B_24_HOURS;
    rtc->ram[REGISTER_D] = D_VALID;
    rtc->ram[EQUIPMENT] = 0x02; /* a mathematics coprocessor */
    u64 extended = ram > MIB ? (ram - MIB) / KIB : 0;
    store_word(0x15, 640);
    store_word(0x17, extended);
    store_word(0x30, extended);
    store_word(0x34, ram > 16 * MIB ? (ram - 16 * MIB) / (64 * KIB) : 0);
    u32 sum = 0;
    for (unsigned i = 0x10; i < CHECKSUM; i++)
        sum += rtc->ram[i];
    rtc->ram[CHECKSUM] = (u8)(sum >> 8);
    rtc->ram[CHECKSUM + 1] = (u8)sum;
    u32 fraction;
    rtc->second = clock_second(&fraction);
    rtc->periodic = clocks_from_time(port_time(), CRYSTAL) >> periodic_shift();
}
