/* Xenstore, the small database through which domains find each other (docs/misc/xenstore.txt). */
#ifndef PREVIRT_XEN_STORE_H
#define PREVIRT_XEN_STORE_H

#include "core/types.h"

#define STORE_TEXT 256u

void store_start(void);
/* Does what has been asked for by `xl sysrq`; between two instructions of the guest. */
void store_poll(void);
/* Reads a key as text, zero-terminated. Paths are the domain's own or absolute. False if it is not there. */
bool store_read(const char *path, char text[STORE_TEXT]);
bool store_read_number(const char *path, u64 *number);
bool store_write(const char *path, const char *text);
bool store_write_number(const char *path, u32 number);

#endif
