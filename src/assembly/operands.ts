/** Operands of x86 instructions in AT&T syntax, as far as lengths and segments need them. */

/** What widening has to know about an instruction's memory operand. */
export interface MemoryOperand {
  /** It names a segment of its own, so no prefix may be put in front. */
  readonly segmentOverride: boolean;
  /** Its default segment is %ss (base %esp or %ebp). */
  readonly stackSegment: boolean;
  /** The fewest bytes ModRM, SIB and displacement can take. */
  readonly length: number;
}

/** Splits at the commas that are outside parentheses and strings. */
export function splitOperands(text: string): string[] {
  const operands: string[] = [];
  let depth = 0;
  let quoted = false;
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    const c = text[at];
    if (c === '"') quoted = !quoted;
    else if (quoted) continue;
    else if (c === '(') depth++;
    else if (c === ')') depth--;
    else if (c === ',' && depth === 0) {
      operands.push(text.slice(start, at).trim());
      start = at + 1;
    }
  }
  const last = text.slice(start).trim();
  if (last !== '' || operands.length > 0) operands.push(last);
  return operands;
}

/** The register's name without `%`, or undefined if the operand is anything else. */
export function registerName(operand: string): string | undefined {
  return /^%([a-z]+[0-9]*[a-z]?)$/i.exec(operand)?.[1]?.toLowerCase();
}

/** The value of a plain number in the assembler's notation; undefined for anything that has to be computed. */
export function numberValue(text: string): number | undefined {
  const match = /^([-+]?)\s*(0x[0-9a-f]+|0b[01]+|[0-9]+)$/i.exec(text);
  if (match === null) return undefined;
  const digits = match[2] as string;
  const magnitude = /^0[0-7]+$/.test(digits) ? Number.parseInt(digits, 8) : Number(digits);
  return match[1] === '-' ? -magnitude : magnitude;
}

const MEMORY = /^\*?\s*(%[cdefgs]s\s*:)?(.*?)(?:\(((?=[^()]*[%,])[^()]*)\))?$/is;

/** Reads an operand as memory; undefined for registers and immediates. */
export function memoryOperand(operand: string): MemoryOperand | undefined {
  const target = operand.startsWith('*') ? operand.slice(1).trim() : operand;
  if (operand.startsWith('$') || registerName(target) !== undefined) return undefined;
  const [, override, displacement = '', address] = MEMORY.exec(operand) ?? [];
  const segmentOverride = override !== undefined;
  if (address === undefined) return { segmentOverride, stackSegment: false, length: 1 + 4 };
  const [base = '', index = ''] = address.split(',').map((part) => part.trim().toLowerCase());
  const stackSegment = /^%[re]?[sb]p$/.test(base);
  const sib = index !== '' || /^%([re]?sp|r12d?)$/.test(base) ? 1 : 0;
  if (base === '') return { segmentOverride, stackSegment, length: 1 + sib + 4 };
  if (/^%[re]ip$/.test(base)) return { segmentOverride, stackSegment, length: 1 + 4 };
  const least = /^%([re]bp|r13d?)$/.test(base) ? 1 : 0;
  return { segmentOverride, stackSegment, length: 1 + sib + displacementLength(displacement.trim(), least) };
}

/** A symbol's displacement may turn out to be a small constant, so only a number is known to need four bytes. */
function displacementLength(text: string, least: number): number {
  const value = text === '' ? 0 : numberValue(text);
  if (value === undefined || value === 0) return least;
  const signed = value | 0;
  return signed >= -128 && signed <= 127 ? 1 : 4;
}
