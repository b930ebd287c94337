/*
 * A plugin of QEMU: counts instructions from the first one after reset, and
 * writes how many came before
 * the marker (marker.c) to the file `out` when the guest first executes it.
 */
#include "qemu-plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t MARKER[] = {0x66, 0x87, 0xdb}; /* xchg %bx, %bx */

static uint64_t executed;
static char *output;

/** The marker has been reached. Only its first time counts. */
static void marked(unsigned cpu, void *data)
{
    (void)cpu;
    (void)data;
    if (!output) return;
    FILE *file = fopen(output, "w");
    if (!file || fprintf(file, "%llu\n", (unsigned long long)executed) < 0 || fclose(file)) {
        perror(output);
        exit(1);
    }
    output = NULL;
}

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    (void)id;
    size_t count = qemu_plugin_tb_n_insns(block);
    for (size_t index = 0; index < count; index++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, index);
        qemu_plugin_register_vcpu_insn_exec_inline(instruction, INLINE_ADD_U64, &executed, 1);
        if (qemu_plugin_insn_size(instruction) == sizeof MARKER &&
            !memcmp(qemu_plugin_insn_data(instruction), MARKER, sizeof MARKER))
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, marked, NO_REGISTERS, NULL);
    }
}

PLUGIN_EXPORT int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments)
{
    (void)info;
    static const char OUT[] = "out=";
    if (count != 1 || strncmp(arguments[0], OUT, sizeof OUT - 1)) {
        fprintf(stderr, "counter: give it out=FILE\n");
        return -1;
    }
    output = strdup(arguments[0] + sizeof OUT - 1);
    if (!output) return -1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
