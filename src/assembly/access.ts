/** From the text of one statement to the memory access in it: what the domains of memory are made of. */

import { memoryOperand, registerName, splitOperands } from './operands.ts';
import type { Operation } from './operation.ts';

/** A statement that reads or writes one operand in memory. */
export interface Access extends Omit<Operation, 'kind'> {
  readonly writes: boolean;
  /** The base register of the memory operand, without `%`; '' if there is none. */
  readonly base: string;
}

/**
 * How the operands decide, in AT&T order:
 *
 *   move    the last operand is written, the first read
 *   extend  a read into a register of another width
 *   alu     as `move`, but a memory operand that is written is read before
 *   compare only read
 *   modify  whichever operand is in memory is read and written
 */
type Form = 'move' | 'extend' | 'alu' | 'compare' | 'modify';

/** One row: mnemonics without their suffix of size, form, opcode bytes, whether flags are a result. */
// biome-ignore format: aligned columns
const TABLE = [
  // mnemonics                                     form       bytes  flags
  ['mov',                                          'move',    1,     false],
  ['movzb movzw movsb movsw movzx movsx',          'extend',  2,     false],
  ['add or adc sbb and sub xor',                   'alu',     1,     true],
  ['cmp test',                                     'compare', 1,     true],
  ['bt',                                           'compare', 2,     true],
  ['inc dec neg',                                  'modify',  1,     true],
  ['not xchg',                                     'modify',  1,     false],
  ['bts btr btc xadd cmpxchg cmpxchg8b',           'modify',  2,     true],
] as const satisfies readonly (readonly [string, Form, number, boolean])[];

interface Row {
  readonly form: Form;
  readonly opcodeLength: number;
  readonly setsFlags: boolean;
}

const SUFFIXES = ['', 'b', 'w', 'l'] as const;

const ROWS: ReadonlyMap<string, Row> = new Map(
  TABLE.flatMap(([mnemonics, form, bytes, setsFlags]) =>
    mnemonics
      .split(' ')
      .flatMap((name) =>
        SUFFIXES.map((suffix): [string, Row] => [
          name + suffix,
          { form, opcodeLength: bytes + (suffix === 'w' ? 1 : 0), setsFlags },
        ]),
      ),
  ),
);

/**
 * Reads an instruction as a memory access. Undefined for other instructions,
 * for those without a memory operand, and for accesses through a segment of
 * their own, which reach data of the processor.
 */
export function readAccess(mnemonic: string, operandText: string): Access | undefined {
  const row = ROWS.get(mnemonic);
  if (row === undefined) return undefined;
  const operands = splitOperands(operandText);
  const at = operands.findIndex((operand) => memoryOperand(operand) !== undefined);
  const memory = at < 0 ? undefined : memoryOperand(operands[at] as string);
  if (memory === undefined || memory.segmentOverride || operands.some((operand) => operand.includes('\\')))
    return undefined;
  const last = at === operands.length - 1;
  const writes = row.form === 'modify' || (last && (row.form === 'move' || row.form === 'alu'));
  const immediate = operands.some((operand) => operand.startsWith('$')) ? 1 : 0;
  // A move between the accumulator and an address that is a plain number or symbol has no ModRM byte.
  const short = row.form === 'move' && operands.some((operand) => ACCUMULATOR.test(operand)) ? 1 : 0;
  return {
    length: row.opcodeLength + memory.length - short + immediate,
    memory,
    opaque: false,
    writes,
    base: baseOf(operands[at] as string),
    setsFlags: row.setsFlags,
  };
}

const ACCUMULATOR = /^%(al|ax|eax)$/;

const baseOf = (operand: string): string => registerName(/\(\s*(%[a-z]+)/i.exec(operand)?.[1] ?? '') ?? '';
