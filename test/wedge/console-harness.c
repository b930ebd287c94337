/*
 * The console of the wedge, with a UART that takes as many bytes as it is told
 * to. One command a line:
 *
 *   type HEX      input from the host
 *   room COUNT    the guest reads: the UART takes so many bytes more
 *   time NS       guest time
 *   poll          what a tick does; answers what has happened since, a word each
 */

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/crash.h"
#include "core/port.h"
#include "devices/devices.h"
#include "run/burn.h"
#include "run/counts.h"
#include "run/run.h"
#include "run/state.h"

static u8 wire[65536];
static u32 wire_next, wire_end, room;
static u64 now;
static jmp_buf ended;

s32 port_receive(u8 *bytes, u32 size) {
    u32 count = 0;
    while (count < size && wire_next < wire_end)
        bytes[count++] = wire[wire_next++];
    return count ? (s32)count : -1;
}
volatile u32 attention;
bool uart_can_receive(void) { return room; }
void uart_receive(u8 byte) {
    room--;
    printf("%02x ", byte);
}
u64 port_time(void) { return now; }
void state_stop(void) { printf("stop "); }
void state_go_on(void) { printf("go "); }
void state_log(void) { printf("log "); }
void state_log_end(void) { printf("end "); }
void state_features(bool all) { printf("features "); }
void reburn(u32 domains) { printf("reburn-%x ", domains); }
void counts_tell(void) {}
void report(const char *format, ...) { printf("report "); }
void port_message(const char *text) {}
void port_transmit(const u8 *bytes, u32 length) {}
void port_end(int status) {
    printf("ended ");
    longjmp(ended, 1);
}

static void command(char *line) {
    char *verb = strtok(line, " \n"), *argument = strtok(NULL, " \n");
    unsigned byte;
    if (!strcmp(verb, "type"))
        for (; sscanf(argument, "%2x", &byte) == 1; argument += 2)
            wire[wire_end++] = (u8)byte;
    else if (!strcmp(verb, "room"))
        room = strtoul(argument, NULL, 0);
    else if (!strcmp(verb, "time"))
        now = strtoull(argument, NULL, 0);
    else {
        if (!setjmp(ended))
            console_input(true);
        printf("\n");
    }
}

int main(void) {
    static char line[1 << 18];
    console_start((const u8 *)"", true, true);
    while (fgets(line, sizeof line, stdin))
        command(line);
    return 0;
}
