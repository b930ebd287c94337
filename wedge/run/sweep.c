/*
 * Code that was never annotated: which of its instructions would do something
 * else outside of ring 0, and not trap. The first byte of such a one becomes
 * that of HLT, which always traps there; the patch table keeps what it was.
 */

#include "burn.h"
#include "core/decode.h"
#include "run.h"

#define BIT(opcode) (1u << ((opcode)&31))

/* By opcode; those of two bytes, and those that ModRM decides, apart. */
static const u32 silent[8] = {
    /* push and pop of ES, CS, SS, DS */
    [0] = BIT(0x06) | BIT(0x07) | BIT(0x0e) | BIT(0x16) | BIT(0x17) | BIT(0x1e) | BIT(0x1f),
    [3] = BIT(0x63), /* arpl */
    /* mov from and to segments, far call, pushf, popf */
    [4] = BIT(0x8c) | BIT(0x8e) | BIT(0x9a) | BIT(0x9c) | BIT(0x9d),
    /* les, lds, far return, int, iret */
    [6] = BIT(0xc4) | BIT(0xc5) | BIT(0xca) | BIT(0xcb) | BIT(0xcd) | BIT(0xcf),
    [7] = BIT(0xea), /* far jump */
};

static const u32 silent_two_byte[8] = {
    /* sldt to verw, sgdt to invlpg, lar, lsl */
    [0] = BIT(0x00) | BIT(0x01) | BIT(0x02) | BIT(0x03),
    /* push and pop of FS and GS, cpuid, lss, lfs, lgs */
    [5] = BIT(0xa0) | BIT(0xa1) | BIT(0xa2) | BIT(0xa8) | BIT(0xa9) | BIT(0xb2) | BIT(0xb4) | BIT(0xb5),
};

bool sweep_finds(const struct instruction *i) {
    if (i->map == 0 && i->opcode == 0xff)
        return i->memory && (i->reg == 3 || i->reg == 5); /* far, indirect */
    const u32 *among = i->map == 0 ? silent : silent_two_byte;
    return i->map <= 1 && (among[i->opcode / 32] & BIT(i->opcode));
}
