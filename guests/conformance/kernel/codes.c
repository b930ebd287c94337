/* The table of all codes: where each lies, and the registers it wants. */
#include "guest.h"

#define CODE(name, inputs, ...)                                                                    \
    extern const u8 site_##name[], site_##name##_end[], user_##name[], user_##name##_end[];
#include "sites.h"
#undef CODE

#define UNWRAP(...) __VA_ARGS__
#define ADDRESS(object) ((u32)&(object))
#define DEFAULTS                                                                                   \
    {.eax = 0x11110000, .ecx = 0x22220000, .edx = 0x33330000, .ebx = 0x44440000,                   \
     .ebp = 0x55550000, .esi = 0x66660000, .edi = 0x77770000, .eflags = FIXED}

#define CODE(label, inputs, ...)                                                                   \
    [CODE_##label] = {.name = #label,                                                              \
                      .start = site_##label,                                                       \
                      .end = site_##label##_end,                                                   \
                      .user_start = user_##label,                                                  \
                      .user_end = user_##label##_end,                                              \
                      .in = DEFAULTS,                                                              \
                      UNWRAP inputs},
const struct code codes[CODE_COUNT] = {
#include "sites.h"
};
