/*
 * One table row a line of 16 opcodes (SDM vol. 2D, appendix A):
 *
 *   .  nothing follows          M  ModRM
 *   b  8-bit immediate          B  ModRM, 8-bit immediate
 *   w  16-bit immediate         Z  ModRM, 16/32-bit immediate
 *   z  16/32-bit immediate      e  16-bit and 8-bit immediate (enter)
 *   o  16/32-bit address        f  far pointer
 *   R  ModRM, a register whatever its mod field says (mov to and from control and debug registers)
 *   p  prefix or escape         g, G  group 3: an immediate only with /0 and /1
 */

#include "decode.h"

#include "cpu.h"

static const char one_byte[] =
    "MMMMbz..MMMMbz.p" /* 00 */
    "MMMMbz..MMMMbz.." /* 10 */
    "MMMMbzp.MMMMbzp." /* 20 */
    "MMMMbzp.MMMMbzp." /* 30 */
    "................" /* 40 */
    "................" /* 50 */
    "..MMppppzZbB...." /* 60 */
    "bbbbbbbbbbbbbbbb" /* 70 */
    "BZBBMMMMMMMMMMMM" /* 80 */
    "..........f....." /* 90 */
    "oooo....bz......" /* a0 */
    "bbbbbbbbzzzzzzzz" /* b0 */
    "BBw.MMBZe.w..b.." /* c0 */
    "MMMMbb..MMMMMMMM" /* d0 */
    "bbbbbbbbzzfb...." /* e0 */
    "p.pp..gG......MM" /* f0 */;

static const char two_byte[] =
    "MMMM.........M.B" /* 00 */
    "MMMMMMMMMMMMMMMM" /* 10 */
    "RRRRMMMMMMMMMMMM" /* 20 */
    "........p.p....." /* 30 */
    "MMMMMMMMMMMMMMMM" /* 40 */
    "MMMMMMMMMMMMMMMM" /* 50 */
    "MMMMMMMMMMMMMMMM" /* 60 */
    "BBBBMMM.MMMMMMMM" /* 70 */
    "zzzzzzzzzzzzzzzz" /* 80 */
    "MMMMMMMMMMMMMMMM" /* 90 */
    "...MBMMM...MBMMM" /* a0: 0f a6 and a7 are of VIA */
    "MMMMMMMMMMBMMMMM" /* b0 */
    "MMBMBBBM........" /* c0 */
    "MMMMMMMMMMMMMMMM" /* d0 */
    "MMMMMMMMMMMMMMMM" /* e0 */
    "MMMMMMMMMMMMMMMM" /* f0 */;

struct cursor {
    const u8 *bytes;
    unsigned count, at;
    bool short_of; /* ran over the end */
};

static u32 take(struct cursor *cursor, unsigned size) {
    u32 value = 0;
    for (unsigned i = 0; i < size; i++) {
        if (cursor->at >= cursor->count) {
            cursor->short_of = true;
            return 0;
        }
        value |= (u32)cursor->bytes[cursor->at++] << (8 * i);
    }
    return value;
}

/* True if `byte` was a prefix. */
static bool prefix(struct instruction *result, u8 byte) {
    switch (byte) {
    case 0x26: result->segment = ES; break;
    case 0x2e: result->segment = CS; break;
    case 0x36: result->segment = SS; break;
    case 0x3e: result->segment = DS; break;
    case 0x64: result->segment = FS; break;
    case 0x65: result->segment = GS; break;
    case 0x66: result->operand_size = 2; return true;
    case 0x67: result->address_size = 2; return true;
    case 0xf0: result->lock = true; return true;
    case 0xf2:
    case 0xf3: result->repeat = byte; return true;
    default: return false;
    }
    result->overridden = true;
    return true;
}

static void modrm(struct instruction *result, struct cursor *cursor, bool registers_only) {
    result->has_modrm = true;
    result->modrm_offset = cursor->at;
    u8 byte = take(cursor, 1);
    result->mod = byte >> 6;
    result->reg = byte >> 3 & 7;
    result->rm = byte & 7;
    result->memory = result->mod != 3 && !registers_only;
    if (result->memory) {
        unsigned size = result->mod == 1 ? 1 : result->mod == 2 ? result->address_size : 0;
        bool stack = false; /* bases ebp, esp and bp default to SS */
        if (result->address_size == 4) {
            u8 base = result->rm;
            if (base == ESP) {
                result->sib = take(cursor, 1);
                base = result->sib & 7;
            }
            if (base == EBP && result->mod == 0)
                size = 4;
            stack = base == ESP || (base == EBP && result->mod != 0);
        } else {
            if (result->rm == 6 && result->mod == 0)
                size = 2;
            stack = result->rm == 2 || result->rm == 3 || (result->rm == 6 && result->mod != 0);
        }
        u32 displacement = take(cursor, size);
        result->displacement = size == 1 ? (u32)(s32)(s8)displacement
                               : size == 2 ? (u32)(s32)(s16)displacement
                                           : displacement;
        if (!result->overridden)
            result->segment = stack ? SS : DS;
    }
    result->modrm_length = cursor->at - result->modrm_offset;
}

bool decode(const u8 *bytes, unsigned count, struct instruction *result) {
    struct cursor cursor = {.bytes = bytes, .count = count < MAX_INSTRUCTION ? count : MAX_INSTRUCTION};
    *result = (struct instruction){.operand_size = 4, .address_size = 4, .segment = DS};
    u8 byte;
    do
        byte = take(&cursor, 1);
    while (!cursor.short_of && prefix(result, byte));
    char form = one_byte[byte];
    /* With register operands c4, c5, 62 and 8f are prefixes of vector instructions, which are not decoded. */
    bool vector = byte == 0xc4 || byte == 0xc5 || byte == 0x62;
    if (vector && cursor.at < cursor.count && bytes[cursor.at] >= 0xc0)
        return false;
    if (byte == 0x8f && cursor.at < cursor.count && (bytes[cursor.at] & 0x38))
        return false;
    if (byte == 0x0f) {
        byte = take(&cursor, 1);
        result->map = 1;
        form = two_byte[byte];
        if (form == 'p') {
            result->map = byte == 0x38 ? 2 : 3;
            form = byte == 0x38 ? 'M' : 'B';
            byte = take(&cursor, 1);
        }
    }
    result->opcode = byte;
    unsigned word = result->operand_size;
    if (form == 'M' || form == 'R' || form == 'B' || form == 'Z' || form == 'g' || form == 'G')
        modrm(result, &cursor, form == 'R');
    switch (form) {
    case 'b':
    case 'B': result->immediate = take(&cursor, 1); break;
    case 'w': result->immediate = take(&cursor, 2); break;
    case 'z':
    case 'Z': result->immediate = take(&cursor, word); break;
    case 'o': result->displacement = take(&cursor, result->address_size); break;
    case 'e': result->immediate = take(&cursor, 3); break;
    case 'g': result->immediate = result->reg < 2 ? take(&cursor, 1) : 0; break;
    case 'G': result->immediate = result->reg < 2 ? take(&cursor, word) : 0; break;
    case 'f':
        result->immediate = take(&cursor, word);
        result->selector = take(&cursor, 2);
        break;
    }
    result->length = cursor.at;
    return !cursor.short_of;
}

/* What the prefix of a vector instruction stands for: its own length, and the escape bytes of its map. */
static unsigned vector_prefix(const u8 *bytes, unsigned count, u8 escape[2], unsigned *escapes) {
    unsigned length = count < 4 ? 0 : bytes[0] == 0xc5 ? 2 : bytes[0] == 0xc4 ? 3 : bytes[0] == 0x62 ? 4 : 0;
    if (!length || bytes[1] < 0xc0)
        return 0;
    unsigned map = length == 2 ? 1 : bytes[1] & (length == 3 ? 0x1f : 7);
    escape[0] = 0x0f;
    escape[1] = map == 3 ? 0x3a : 0x38;
    *escapes = map == 1 ? 1 : 2;
    return map >= 1 && map <= 3 ? length : 0;
}

/* Behind its prefix a vector instruction looks like the one of the same map and opcode. */
unsigned decode_length(const u8 *bytes, unsigned count, struct instruction *result) {
    if (decode(bytes, count, result))
        return result->length;
    struct instruction legacy;
    u8 plain[MAX_INSTRUCTION];
    unsigned at = 0, escapes;
    if (count > MAX_INSTRUCTION)
        count = MAX_INSTRUCTION;
    while (at < count && prefix(result, bytes[at]))
        at++;
    unsigned length = vector_prefix(bytes + at, count - at, plain, &escapes);
    if (!length)
        return 0;
    at += length;
    unsigned rest = count - at < MAX_INSTRUCTION - escapes ? count - at : MAX_INSTRUCTION - escapes;
    memcpy(plain + escapes, bytes + at, rest);
    if (!decode(plain, escapes + rest, &legacy))
        return 0;
    *result = (struct instruction){.map = MAP_VECTOR, .length = at + legacy.length - escapes};
    return result->length;
}

static u32 offset_16(const struct instruction *i) {
    static const u8 first[8] = {EBX, EBX, EBP, EBP, ESI, EDI, EBP, EBX};
    static const u8 second[4] = {ESI, EDI, ESI, EDI};
    u32 offset = i->displacement;
    if (!(i->mod == 0 && i->rm == 6))
        offset += cpu.gpr[first[i->rm]] + (i->rm < 4 ? cpu.gpr[second[i->rm]] : 0);
    return offset & 0xffff;
}

u32 decode_offset(const struct instruction *i) {
    if (!i->has_modrm)
        return i->displacement; /* moffs */
    if (i->address_size == 2)
        return offset_16(i);
    u32 offset = i->displacement;
    u8 base = i->rm;
    if (base == ESP) {
        u8 index = i->sib >> 3 & 7;
        base = i->sib & 7;
        if (index != ESP)
            offset += cpu.gpr[index] << (i->sib >> 6);
    }
    if (!(base == EBP && i->mod == 0))
        offset += cpu.gpr[base];
    return offset;
}

gva_t decode_address(const struct instruction *i) {
    return gva(cpu.segments[i->segment].base + decode_offset(i));
}
