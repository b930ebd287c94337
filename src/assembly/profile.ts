/**
 * Statements that a run found to access device registers or page tables, and
 * how they are recognised again: by the function's symbol, what the statement
 * looks like without what the linker decides, and its number among those of
 * the function that look the same. So a profile outlives changes elsewhere.
 */

import { numberValue, registerName, splitOperands } from './operands.ts';
import type { MemoryDomain } from './policy.ts';

export interface ProfiledStatement {
  readonly function: string;
  /** As {@link normalStatement} has it. */
  readonly statement: string;
  /** Counted from 0 within the function. */
  readonly ordinal: number;
  readonly domain: MemoryDomain;
}

/** Displacements of this size and more are addresses, which the linker decides. */
const LEAST_ADDRESS = 0x10000;

export const normalDisplacement = (value: number): string =>
  Math.abs(value) >= LEAST_ADDRESS ? '*' : String(value);

/** `disp(base,index,scale)` with all five parts spelled out. */
export const normalMemory = (displacement: string, base: string, index: string, scale: number): string =>
  `${displacement}(${base},${index},${index === '' ? 1 : scale})`;

/** Suffixes say the operand's size, which a register says as well. */
export const normalMnemonic = (mnemonic: string): string =>
  mnemonic.replace(/^mov([zs])[bwx].*$/, 'mov$1').replace(/^(cmpxchg8b|[a-z]{2,}?)[bwl]$/, unsuffixed);

/** Mnemonics that end with a letter that looks like a suffix. */
const WHOLE = new Set(['sub', 'sbb', 'cmpxchg8b', 'shl', 'sal', 'rol', 'rcl']);

function unsuffixed(mnemonic: string, stem: string): string {
  return WHOLE.has(mnemonic) ? mnemonic : stem;
}

/** The form of a statement in AT&T syntax that comparing needs. */
export function normalStatement(mnemonic: string, operandText: string): string {
  const operands = splitOperands(operandText).map(normalOperand);
  return `${normalMnemonic(mnemonic.toLowerCase())} ${operands.join(',')}`;
}

function normalOperand(operand: string): string {
  const register = registerName(operand);
  if (register !== undefined) return `%${register}`;
  if (operand.startsWith('$')) return '$';
  const [, displacement = '', address] = /^([^()]*)(?:\(([^()]*)\))?$/.exec(operand) ?? [];
  const [base = '', index = '', scale = '1'] = (address ?? '')
    .split(',')
    .map((part) => part.trim().toLowerCase());
  const value = displacement.trim() === '' ? 0 : numberValue(displacement.trim());
  const normal = value === undefined ? '*' : normalDisplacement(value);
  return normalMemory(normal, base.replace('%', ''), index.replace('%', ''), Number(scale) || 1);
}
