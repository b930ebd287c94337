/* The trace ring and the crash report. */

#include "crash.h"

#include "cpu.h"
#include "port.h"

#define TRACE_ENTRIES 64u

static struct {
    u32 event, eip, info;
} ring[TRACE_ENTRIES];
static u32 ring_next;

void trace(enum trace_event event, u32 eip, u32 info) {
    u32 slot = ring_next++ % TRACE_ENTRIES;
    ring[slot].event = event;
    ring[slot].eip = eip;
    ring[slot].info = info;
}

/* --- A formatter for %u, %x and %s --- */

struct text {
    char bytes[256];
    u32 length;
};

static void put(struct text *text, char byte) {
    if (text->length < sizeof text->bytes - 1)
        text->bytes[text->length++] = byte;
    text->bytes[text->length] = 0;
}

static void put_number(struct text *text, u32 value, u32 base, u32 width) {
    char digits[10];
    u32 n = 0;
    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (width > n) {
        put(text, '0');
        width--;
    }
    while (n)
        put(text, digits[--n]);
}

static void put_format(struct text *text, const char *format, __builtin_va_list arguments) {
    for (; *format; format++) {
        if (*format != '%') {
            put(text, *format);
            continue;
        }
        switch (*++format) {
        case 'u': put_number(text, __builtin_va_arg(arguments, u32), 10, 0); break;
        case 'x': put_number(text, __builtin_va_arg(arguments, u32), 16, 8); break;
        case 's':
            for (const char *string = __builtin_va_arg(arguments, const char *); *string; string++)
                put(text, *string);
            break;
        default: return;
        }
    }
}

void report(const char *format, ...) {
    struct text text = {.length = 0};
    __builtin_va_list arguments;
    __builtin_va_start(arguments, format);
    put_format(&text, format, arguments);
    __builtin_va_end(arguments);
    put(&text, '\n');
    port_message(text.bytes);
}

static void report_cpu(void) {
    static const char *const names[8] = {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"};
    static const char *const segments[6] = {"es", "cs", "ss", "ds", "fs", "gs"};
    for (u32 i = 0; i < 8; i += 4)
        report("  %s %x  %s %x  %s %x  %s %x", names[i], cpu.gpr[i], names[i + 1], cpu.gpr[i + 1], names[i + 2],
               cpu.gpr[i + 2], names[i + 3], cpu.gpr[i + 3]);
    report("  eip %x  eflags %x  cpl %u  cr0 %x  cr2 %x  cr3 %x  cr4 %x", cpu.eip, cpu_flags(), cpu.cpl, cpu.cr0,
           cpu.cr2, cpu.cr3, cpu.cr4);
    for (u32 i = 0; i < 6; i++)
        report("  %s %x  base %x  limit %x", segments[i], (u32)cpu.segments[i].selector, cpu.segments[i].base,
               cpu.segments[i].limit);
    report("  gdt %x  idt %x  tr %x  pending %u", cpu.gdtr.base, cpu.idtr.base, (u32)cpu.tr.selector, cpu.pending);
}

static void report_trace(void) {
    static const char *const events[] = {"site", "trap", "exception", "interrupt", "fill"};
    u32 count = ring_next < TRACE_ENTRIES ? ring_next : TRACE_ENTRIES;
    report("last %u events, the newest at the end:", count);
    for (u32 i = ring_next - count; i != ring_next; i++) {
        u32 slot = i % TRACE_ENTRIES;
        report("  at %x %s %x", ring[slot].eip, events[ring[slot].event], ring[slot].info);
    }
}

void crash(const char *format, ...) {
    struct text text = {.length = 0};
    __builtin_va_list arguments;
    __builtin_va_start(arguments, format);
    put_format(&text, format, arguments);
    __builtin_va_end(arguments);
    report("previrt: the guest is lost: %s", text.bytes);
    report_cpu();
    report_trace();
    port_crashed();
}
