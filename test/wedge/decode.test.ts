/** The wedge's decoder against iced-x86: lengths and memory operands. */

import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { Code, Decoder, DecoderOptions, EncodingKind, OpKind, Register } from 'iced-x86';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Harness } from './harness.ts';

const LONGEST = 15;

let harness: Harness;

beforeAll(() => {
  harness = new Harness('decode', ['core/decode.c', 'core/string.c']);
});

afterAll(() => harness.remove());

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function decodeAll(instructions: readonly Uint8Array[]): string[] {
  const input = instructions.map((bytes) => `${hex(bytes)}\n`).join('');
  return execFileSync(harness.program, { input, encoding: 'latin1' }).trimEnd().split('\n');
}

const SEGMENTS = new Map([
  [Register.ES, 0],
  [Register.CS, 1],
  [Register.SS, 2],
  [Register.DS, 3],
  [Register.FS, 4],
  [Register.GS, 5],
]);

/** What iced says, in the harness's words; undefined for what the wedge does not claim to know. */
function reference(bytes: Uint8Array): string | undefined {
  const decoder = new Decoder(32, bytes, DecoderOptions.None);
  const instruction = decoder.decode();
  try {
    if (instruction.code === Code.INVALID || instruction.encoding !== EncodingKind.Legacy) return undefined;
    let modrmMemory = false;
    for (let operand = 0; operand < instruction.opCount; operand++)
      if (instruction.opKind(operand) === OpKind.Memory) modrmMemory = true;
    // These name memory without a ModRM byte.
    const memory = modrmMemory && !/moffs|Xlat/.test(Code[instruction.code] ?? '');
    const segment = memory ? SEGMENTS.get(instruction.memorySegment) : 0;
    const displacement = memory ? Number(BigInt.asUintN(32, instruction.memoryDisplacement)) : 0;
    return `${instruction.length} ${Number(memory)} ${segment} ${displacement}`;
  } finally {
    instruction.free();
    decoder.free();
  }
}

/** 16-bit addresses wrap, which iced folds into the displacement. */
const comparable = (bytes: Uint8Array): boolean => !bytes.includes(0x67);

/** Replay a failure with PREVIRT_SEED. */
const SEED = Number(process.env.PREVIRT_SEED ?? Date.now() % 2 ** 31);

const randomBytes = fc.sample(fc.uint8Array({ minLength: LONGEST, maxLength: LONGEST }), {
  seed: SEED,
  numRuns: 20_000,
});

/** What earlier seeds have found. */
const FOUND = ['0fa7c5a912dd58aafcefe80795c09b'].map((text) => Uint8Array.from(Buffer.from(text, 'hex')));

describe(`the wedge decodes (PREVIRT_SEED=${SEED})`, () => {
  const known = [...FOUND, ...randomBytes]
    .filter(comparable)
    .map((bytes) => ({ bytes, expected: reference(bytes) }))
    .filter(({ expected }) => expected !== undefined);

  it('every instruction as iced-x86 does', () => {
    const actual = decodeAll(known.map(({ bytes }) => bytes));
    const differ = known
      .map(({ bytes, expected }, index) => ({ bytes: hex(bytes), expected, actual: actual[index] }))
      .filter(({ expected, actual: found }) => expected !== found);
    expect(known.length).toBeGreaterThan(5000);
    expect(differ.slice(0, 5)).toEqual([]);
  });

  it('nothing of an instruction whose end is missing', () => {
    const cut = known.map(({ bytes, expected }) => bytes.subarray(0, Number.parseInt(expected!, 10) - 1));
    expect(decodeAll(cut.filter(({ length }) => length > 0)).filter((line) => line !== '-')).toEqual([]);
  });
});
