/** From the text of one statement to the sensitive operation in it. */

import type { SensitiveMnemonic } from '../x86/sensitive.ts';
import {
  type OperandForm,
  RAW_ENCODINGS,
  SENSITIVE_MNEMONICS,
  SENSITIVE_REGISTERS,
} from '../x86/sensitive.ts';
import type { SiteKindName } from '../x86/site-kinds.ts';
import { type MemoryOperand, memoryOperand, numberValue, registerName, splitOperands } from './operands.ts';

export interface Operation {
  readonly kind: SiteKindName;
  /** The fewest bytes the assembler can make of the statement, prefixes in front of it not counted. */
  readonly length: number;
  readonly memory: MemoryOperand | undefined;
  /** An operand is a macro's argument, so that neither its length nor its segment can be told. */
  readonly opaque: boolean;
  /** Arithmetic flags are a result of it, where the kind does not say so. */
  readonly setsFlags?: boolean;
}

const BREAKPOINT_VECTOR = 3;
const ANY_MEMORY: MemoryOperand = { segmentOverride: false, stackSegment: false, length: 0 };

/** The longest mnemonic of the table; longer words need no look-up. */
const LONGEST = Math.max(...[...SENSITIVE_MNEMONICS.keys()].map((name) => name.length));

/** The table's row for a mnemonic in any case, if it has one. */
export function sensitiveMnemonic(word: string): SensitiveMnemonic | undefined {
  if (word.length > LONGEST) return undefined;
  return SENSITIVE_MNEMONICS.get(word) ?? SENSITIVE_MNEMONICS.get(word.toLowerCase());
}

/** Reads an instruction; undefined if its operands make it harmless. */
export function readOperation(row: SensitiveMnemonic, operandText: string): Operation | undefined {
  return READERS[row.form](row, operandText);
}

const READERS: Readonly<
  Record<OperandForm, (row: SensitiveMnemonic, operandText: string) => Operation | undefined>
> = {
  fixed: ({ kind, opcodeLength }, operand) => plain(kind, opcodeLength + (operand.startsWith('$') ? 2 : 0)),
  monitor: ({ kind, opcodeLength }) => ({ ...plain(kind, opcodeLength), memory: ANY_MEMORY }),
  int: readInterrupt,
  push: readStack,
  pop: readStack,
  mov: (row, operands) => readMove(row, splitOperands(operands)),
  port: (row, operands) => readPort(row, splitOperands(operands)),
  ins: ({ kind, opcodeLength }) => plain(kind, opcodeLength),
  outs: readOutString,
  far: readFar,
  modrm: ({ kind, opcodeLength }, operands) => withModrm(kind, opcodeLength, splitOperands(operands)),
};

/** An instruction spelled as `.byte`s, without operands. */
export function readRawBytes(list: string): Operation | undefined {
  const bytes = list.split(',').map((item) => numberValue(item.trim()));
  if (bytes.length > 3 || bytes.some((byte) => byte === undefined)) return undefined;
  const row = RAW_ENCODINGS.get(bytes.map((byte) => (byte as number).toString(16).padStart(2, '0')).join(''));
  return row && readOperation(row, '');
}

const plain = (kind: SiteKindName, length: number): Operation => ({
  kind,
  length,
  memory: undefined,
  opaque: false,
});

function readInterrupt({ kind, opcodeLength }: SensitiveMnemonic, operand: string): Operation | undefined {
  if (!/^[$\\]/.test(operand)) return undefined;
  if (numberValue(operand.slice(1).trim()) === BREAKPOINT_VECTOR) return undefined;
  return plain(kind, opcodeLength + 1);
}

function readStack({ kind, opcodeLength }: SensitiveMnemonic, operand: string): Operation | undefined {
  const register = registerName(operand);
  if (register === undefined || !/^[cdefgs]s$/.test(register)) return undefined;
  return plain(kind, opcodeLength + (/^[fg]s$/.test(register) ? 1 : 0));
}

function readOutString({ kind, opcodeLength }: SensitiveMnemonic, operands: string): Operation {
  const source = splitOperands(operands)[0];
  const segmentOverride = source !== undefined && (memoryOperand(source)?.segmentOverride ?? false);
  return { ...plain(kind, opcodeLength), memory: { ...ANY_MEMORY, segmentOverride } };
}

function readFar({ kind, opcodeLength }: SensitiveMnemonic, operandText: string): Operation {
  const operands = splitOperands(operandText);
  return operands.length === 2 ? plain(kind, opcodeLength + 6) : withModrm(kind, opcodeLength, operands);
}

function withModrm(kind: SiteKindName, opcodeLength: number, operands: string[]): Operation {
  const memory = operands.map(memoryOperand).find((operand) => operand !== undefined);
  const opaque = operands.some((operand) => operand.includes('\\'));
  return { kind, length: opcodeLength + (opaque ? 1 : (memory?.length ?? 1)), memory, opaque };
}

function readMove(row: SensitiveMnemonic, operands: string[]): Operation | undefined {
  const [source, destination] = operands;
  if (operands.length !== 2 || source === undefined || destination === undefined) return undefined;
  const from = SENSITIVE_REGISTERS.get(registerName(source) ?? '');
  const to = SENSITIVE_REGISTERS.get(registerName(destination) ?? '');
  const register = to ?? from;
  if (register === undefined) return undefined;
  const kind = to !== undefined ? to.to : register.from;
  // Control and debug registers move to and from general registers only.
  if (kind !== 'mov_to_seg' && kind !== 'mov_from_seg') return plain(kind, register.opcodeLength + 1);
  return withModrm(kind, row.opcodeLength, operands);
}

function readPort(row: SensitiveMnemonic, operands: string[]): Operation {
  const immediate = operands.some((operand) => operand.startsWith('$')) ? 1 : 0;
  const implied16 = operands.some((operand) => registerName(operand) === 'ax') && row.opcodeLength === 1;
  return plain(row.kind, row.opcodeLength + immediate + (implied16 ? 1 : 0));
}
