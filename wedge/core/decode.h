/*
 * Decoding one instruction: length, prefixes, operands' places. 32-bit code.
 */
#ifndef PREVIRT_DECODE_H
#define PREVIRT_DECODE_H

#include "types.h"

#define MAX_INSTRUCTION 15

struct instruction {
    u8 length;
    u8 operand_size; /* 2 or 4 */
    u8 address_size; /* 2 or 4 */
    u8 repeat;       /* 0, 0xf2 or 0xf3 */
    bool lock;
    u8 map;    /* 0: one byte, 1: after 0f, 2: after 0f 38, 3: after 0f 3a, MAP_VECTOR: see decode_length */
    u8 opcode; /* in its map */
    bool has_modrm;
    u8 mod, reg, rm;
    bool memory;      /* the ModRM byte names memory */
    u8 segment;       /* of the memory operand, overrides applied (enum segment_register) */
    bool overridden;  /* by a segment prefix */
    u8 modrm_offset;  /* where the ModRM byte stands */
    u8 modrm_length;  /* with SIB and displacement */
    u32 displacement;
    u8 sib;
    u32 immediate;
    u16 selector; /* of a far pointer in the instruction */
};

/* False if `bytes` (at most MAX_INSTRUCTION of them) do not hold a whole instruction. */
bool decode(const u8 *bytes, unsigned count, struct instruction *result);

/*
 * The length of any instruction, vector ones included, 0 if there is no whole
 * one. `result` is as decode() gives it, but for a vector instruction, which is in map 4.
 */
unsigned decode_length(const u8 *bytes, unsigned count, struct instruction *result);
#define MAP_VECTOR 4

/* The offset of the memory operand, from the virtual CPU's registers. */
u32 decode_offset(const struct instruction *instruction);
/* Its guest-virtual address. */
gva_t decode_address(const struct instruction *instruction);

#endif
