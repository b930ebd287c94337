/**
 * The instructions that have an entry of their own, as bytes. The wedge has no
 * decoder with names for forms; it burns modules and running kernels by this
 * table, which says what `selectSubstitution` would.
 */

import { Decoder, DecoderOptions, Instruction } from 'iced-x86';
import { isOfKind, kindOfCode, operationOf } from '../sites/instructions.ts';
import type { SiteKindName } from '../x86/site-kinds.ts';
import { BURN_TARGETS, GENERIC, selectSubstitution } from './select.ts';

export interface Pattern {
  readonly kind: SiteKindName;
  /** The whole instruction, without what widens its slot. */
  readonly bytes: readonly number[];
  readonly entry: string;
}

const OPERAND_SIZE = 0x66;
const TWO_BYTE = 0x0f;
const ALL = [...Array(256).keys()];
/** ModRM bytes of registers: no form with a memory operand is as short. */
const REGISTERS = ALL.slice(0xc0);

const SYSTEM_CALL = [0xcd, 0x80];
const USER_KINDS = ['entry_int80', 'entry_sysenter'] as const;

/** What may have an entry: one opcode, with ModRM where it names a register or belongs to the opcode. */
function candidates(): number[][] {
  const plain = [...ALL.map((opcode) => [opcode]), ...ALL.map((opcode) => [TWO_BYTE, opcode])];
  const named = [[0x8c], [0x8e], [TWO_BYTE, 0x01], [TWO_BYTE, 0x20], [TWO_BYTE, 0x22]];
  const all = [...plain, ...named.flatMap((opcode) => REGISTERS.map((modrm) => [...opcode, modrm]))];
  return [...all, ...all.map((bytes) => [OPERAND_SIZE, ...bytes]), SYSTEM_CALL];
}

/** Each candidate stands at a multiple of this many bytes; one that lacks some takes from what follows, and is too long. */
const STRIDE = 16;

/** The same for every target: their entries are. */
export function hotPatterns(): Pattern[] {
  const all = candidates();
  const text = new Uint8Array(all.length * STRIDE);
  for (const [index, bytes] of all.entries()) text.set(bytes, index * STRIDE);
  const decoder = new Decoder(32, text, DecoderOptions.None);
  const instruction = new Instruction();
  const found: Pattern[] = [];
  all.forEach((bytes, index) => {
    decoder.position = index * STRIDE;
    decoder.decodeOut(instruction);
    const { code, length } = instruction;
    if (length !== bytes.length) return;
    const kinds = [kindOfCode(code), ...USER_KINDS.filter((kind) => isOfKind(instruction, kind))];
    for (const kind of kinds) {
      if (kind === undefined) continue;
      const site = { kind, flags: 0, operation: operationOf(instruction) };
      const { entry } = selectSubstitution(site, BURN_TARGETS.hosted);
      if (entry !== GENERIC) found.push({ kind, bytes, entry });
    }
  });
  decoder.free();
  instruction.free();
  return found;
}
