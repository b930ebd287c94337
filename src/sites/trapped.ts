/** From the address of an instruction that trapped back to the statement that it was assembled from. */

import { Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register } from 'iced-x86';
import {
  normalDisplacement,
  normalMemory,
  normalMnemonic,
  type ProfiledStatement,
} from '../assembly/profile.ts';
import { codeSections, type ElfImage, sectionBytes } from '../elf/image.ts';
import { functionMap, readSymbols } from '../elf/symbols.ts';

/** Where in its function an instruction is, as a profile names it. */
export type Statement = Pick<ProfiledStatement, 'function' | 'statement' | 'ordinal'>;

export interface TrappedInstruction {
  readonly function: string;
  /** Undefined where no statement of the compiler's or in an assembly source can be told. */
  readonly statement: Statement | undefined;
}

const nameOf = (names: object, value: number): string => {
  const name = (names as Record<number, string | undefined>)[value] ?? '';
  return name === 'None' ? '' : name.toLowerCase();
};

function normalOperand(instruction: Instruction, operand: number): string {
  const kind = instruction.opKind(operand);
  if (kind === OpKind.Register) return `%${nameOf(Register, instruction.opRegister(operand))}`;
  if (kind !== OpKind.Memory) return '$';
  const displacement = Number(BigInt.asIntN(32, BigInt(instruction.memoryDisplacement)));
  const base = nameOf(Register, instruction.memoryBase);
  const index = nameOf(Register, instruction.memoryIndex);
  return normalMemory(normalDisplacement(displacement), base, index, instruction.memoryIndexScale);
}

/** As the assembler's source has it: AT&T's order of operands. */
function normalInstruction(instruction: Instruction): string {
  const operands = Array.from({ length: instruction.opCount }, (_, n) => normalOperand(instruction, n));
  return `${normalMnemonic(nameOf(Mnemonic, instruction.mnemonic))} ${operands.reverse().join(',')}`;
}

/** Looks addresses of an unburned kernel up. 32-bit code. */
export function statementFinder(elf: ElfImage): (address: number) => TrappedInstruction {
  const functions = functionMap(elf, readSymbols(elf));
  const sections = codeSections(elf);
  return (address) => {
    const found = functions.at(address);
    const section = sections.find(
      ({ sh_addr, sh_size }) => address >= sh_addr && address < sh_addr + sh_size,
    );
    if (!found || !section) return { function: '', statement: undefined };
    const from = found.value - section.sh_addr;
    const decoder = new Decoder(32, sectionBytes(elf, section).subarray(from), DecoderOptions.None);
    const instruction = new Instruction();
    const seen = new Map<string, number>();
    try {
      while (found.value + decoder.position <= address && decoder.canDecode) {
        const at = found.value + decoder.position;
        decoder.decodeOut(instruction);
        const statement = normalInstruction(instruction);
        const ordinal = seen.get(statement) ?? 0;
        if (at === address)
          return { function: found.name, statement: { function: found.name, statement, ordinal } };
        seen.set(statement, ordinal + 1);
      }
      return { function: found.name, statement: undefined };
    } finally {
      decoder.free();
      instruction.free();
    }
  };
}
