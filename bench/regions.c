/*
 * A plugin of QEMU: counts instructions by where they lie, and writes the
 * counts so far to the file `out` at each marker of bench/counted.h, a line
 * each: the marker, then Xen's, the wedge's, and all others'.
 */
#include "qemu-plugin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Xen's own code (xen/arch/x86/include/asm/config.h, XEN_VIRT_START), and the wedge's (src/substitution/entries.ts). */
#define XEN_START 0xffff82d000000000ull
#define XEN_END 0xffff82d080000000ull
#define WEDGE_START 0xf4800000ull
#define WEDGE_END 0xf5800000ull

enum region { XEN, WEDGE, OTHER, REGIONS };

static const uint8_t TIME[] = {0x66, 0x87, 0xdb}; /* xchg %bx, %bx */
static const uint8_t ROW[] = {0x66, 0x87, 0xc9};  /* xchg %cx, %cx */

static uint64_t executed[REGIONS];
static FILE *output;

static void marked(unsigned cpu, void *marker)
{
    (void)cpu;
    int written = fprintf(output, "%s %llu %llu %llu\n", (const char *)marker, (unsigned long long)executed[XEN],
                          (unsigned long long)executed[WEDGE], (unsigned long long)executed[OTHER]);
    if (written < 0 || fflush(output)) {
        perror("regions");
        exit(1);
    }
}

static enum region region_of(uint64_t address)
{
    if (address >= XEN_START && address < XEN_END) return XEN;
    return address >= WEDGE_START && address < WEDGE_END ? WEDGE : OTHER;
}

static void translated(plugin_id id, struct qemu_plugin_tb *block)
{
    (void)id;
    size_t count = qemu_plugin_tb_n_insns(block);
    for (size_t index = 0; index < count; index++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, index);
        enum region region = region_of(qemu_plugin_insn_vaddr(instruction));
        qemu_plugin_register_vcpu_insn_exec_inline(instruction, INLINE_ADD_U64, &executed[region], 1);
        if (qemu_plugin_insn_size(instruction) != sizeof TIME) continue;
        const void *bytes = qemu_plugin_insn_data(instruction);
        const char *marker = !memcmp(bytes, TIME, sizeof TIME) ? "time" : !memcmp(bytes, ROW, sizeof ROW) ? "row" : NULL;
        if (marker) qemu_plugin_register_vcpu_insn_exec_cb(instruction, marked, NO_REGISTERS, (void *)marker);
    }
}

PLUGIN_EXPORT int qemu_plugin_install(plugin_id id, const void *info, int count, char **arguments)
{
    (void)info;
    static const char OUT[] = "out=";
    if (count != 1 || strncmp(arguments[0], OUT, sizeof OUT - 1)) {
        fprintf(stderr, "regions: give it out=FILE\n");
        return -1;
    }
    output = fopen(arguments[0] + sizeof OUT - 1, "w");
    if (!output) {
        perror(arguments[0] + sizeof OUT - 1);
        return -1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
