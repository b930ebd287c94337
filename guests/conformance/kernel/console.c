/* Output on the UART at 3f8, byte by byte, waiting for each. */
#include "guest.h"

enum { UART_DATA = 0x3f8, UART_LINE_STATUS = 0x3fd, TRANSMITTER_EMPTY = 0x20 };

static void put(char c) {
    while (!(inb(UART_LINE_STATUS) & TRANSMITTER_EMPTY))
        ;
    outb(UART_DATA, (u8)c);
}

static void put_text(const char *text) {
    while (*text)
        put(*text++);
}

static void put_number(u32 value, u32 base, u32 digits) {
    char text[12];
    u32 at = sizeof text;
    text[--at] = 0;
    do {
        text[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value || sizeof text - 1 - at < digits);
    put_text(text + at);
}

static const struct {
    u32 bit;
    const char *name;
} flag_names[] = {{CF, "CF"}, {PF, "PF"}, {AF, "AF"}, {ZF, "ZF"}, {SF, "SF"}, {TF, "TF"}, {IF, "IF"},
                  {DF, "DF"}, {OF, "OF"}, {NT, "NT"}, {AC, "AC"}, {ID, "ID"}};

static void put_flags(u32 value) {
    const char *between = "";
    for (u32 i = 0; i < ARRAY_SIZE(flag_names); i++)
        if (value & flag_names[i].bit) {
            put_text(between);
            put_text(flag_names[i].name);
            between = "+";
        }
    if (value & IOPL) {
        put_text(between);
        put_text("IOPL");
        put('0' + (value >> 12 & 3));
        between = "+";
    }
    if (!*between)
        put('-');
}

static void print_list(const char *format, __builtin_va_list list) {
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        switch (*++format) {
        case 'x': put_number(__builtin_va_arg(list, u32), 16, 1); break;
        case 'X': put_number(__builtin_va_arg(list, u32), 16, 8); break;
        case 'u': put_number(__builtin_va_arg(list, u32), 10, 1); break;
        case 'd': {
            s32 value = __builtin_va_arg(list, s32);
            if (value < 0)
                put('-');
            put_number(value < 0 ? 0u - (u32)value : (u32)value, 10, 1);
            break;
        }
        case 's': put_text(__builtin_va_arg(list, const char *)); break;
        case 'c': put((char)__builtin_va_arg(list, s32)); break;
        case 'f': put_flags(__builtin_va_arg(list, u32)); break;
        default: put(*format); break;
        }
    }
}

void print(const char *format, ...) {
    __builtin_va_list list;
    __builtin_va_start(list, format);
    print_list(format, list);
    __builtin_va_end(list);
}

void say(const char *format, ...) {
    __builtin_va_list list;
    say_open();
    __builtin_va_start(list, format);
    print_list(format, list);
    __builtin_va_end(list);
    put('\n');
}

void note(const char *format, ...) {
    __builtin_va_list list;
    print("# ");
    __builtin_va_start(list, format);
    print_list(format, list);
    __builtin_va_end(list);
    put('\n');
}
