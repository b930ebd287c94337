/* The runner itself: only run when named by `only=`. */
#include "../guest.h"

/* An exception that no run expects ends its test, and only that. */
TEST(selftest, unexpected) {
    say("before");
    asm volatile("ud2");
    say("never printed");
}
TEST(selftest, after) { say("goes on"); }
