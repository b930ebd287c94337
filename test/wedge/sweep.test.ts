/** The wedge's sweep of code that has no sites, against iced-x86 and against what burning does. */

import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { Code, Decoder, DecoderOptions, EncodingKind, Mnemonic } from 'iced-x86';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { kindOfCode } from '../../src/sites/instructions.ts';
import { SILENT_KINDS } from '../../src/substitution/burn-binary.ts';
import { Harness } from './harness.ts';

const LONGEST = 15;

let harness: Harness;

beforeAll(() => {
  harness = new Harness('sweep', ['core/decode.c', 'core/string.c', 'run/sweep.c']);
});

afterAll(() => harness.remove());

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

const ask = (lines: readonly string[]): string[] =>
  execFileSync(harness.program, {
    input: lines.map((line) => `${line}\n`).join(''),
    encoding: 'latin1',
    maxBuffer: 2 ** 27,
  })
    .trimEnd()
    .split('\n');

interface Decoded {
  readonly length: number;
  readonly silent: boolean;
  readonly sensitive: boolean;
}

/** The second opcode byte of a two-byte instruction in hexadecimal, behind its prefixes. */
const groupOf = (bytes: Uint8Array): string =>
  /^(?:26|2e|36|3e|64|65|66|f0|f2|f3)*0f(..)/.exec(hex(bytes))?.[1] ?? '';

/** What iced-x86 says; undefined for what it does not know, and for vector encodings that no compiler makes. */
function decoded(bytes: Uint8Array): Decoded | undefined {
  const decoder = new Decoder(32, bytes, DecoderOptions.None);
  const instruction = decoder.decode();
  const { code, encoding, length, mnemonic, isPrivileged: privileged } = instruction;
  const mapped = /^(00|01)/.test(groupOf(bytes));
  instruction.free();
  decoder.free();
  const known: readonly EncodingKind[] = [EncodingKind.Legacy, EncodingKind.VEX, EncodingKind.EVEX];
  if (code === Code.INVALID || !known.includes(encoding) || mnemonic === Mnemonic.Vzeroall) return undefined;
  const kind = kindOfCode(code);
  const silent = kind !== undefined && SILENT_KINDS.has(kind);
  // Of the groups 0f 00 and 0f 01 all may be taken.
  return { length, silent, sensitive: kind !== undefined || privileged || mapped };
}

/** Replay a failure with PREVIRT_SEED. */
const SEED = Number(process.env.PREVIRT_SEED ?? Date.now() % 2 ** 31);
const sample = (arbitrary: fc.Arbitrary<Uint8Array>, numRuns: number) =>
  fc.sample(arbitrary, { seed: SEED, numRuns });
const anything = fc.uint8Array({ minLength: LONGEST, maxLength: LONGEST });
/** Beginning as the interesting ones do. */
const likely = fc
  .tuple(
    fc.constantFrom(
      ...[
        '9c',
        '9d',
        'cf',
        '06',
        '1f',
        '8c',
        '8e',
        '0f00',
        '0f01',
        '0f02',
        '0f03',
        '0fa0',
        '0fa2',
        '0fa9',
        '0fb2',
      ],
      ...[
        'c4',
        'c5',
        'ff',
        '9a',
        'ea',
        'ca',
        'cb',
        '668c',
        '0f01d0',
        'c5f8',
        'c5fb',
        'c4e279',
        'c4e379',
        '62f17c48',
      ],
      ...['0f07', 'f4', 'fa', 'fb', 'e4', '0f20', '62f27d48', '62f37d48'],
    ),
    anything,
  )
  .map(([start, rest]) => Uint8Array.from([...Buffer.from(start, 'hex'), ...rest]).slice(0, LONGEST));

describe(`the wedge's sweep (PREVIRT_SEED=${SEED})`, () => {
  const known = [...sample(anything, 10_000), ...sample(likely, 10_000)]
    .filter((bytes) => !bytes.includes(0x67))
    .flatMap((bytes) => {
      const expected = decoded(bytes);
      return expected ? [{ bytes, expected }] : [];
    });

  it('knows the length of every instruction, and makes all trap that burning would', () => {
    const actual = ask(known.map(({ bytes }) => hex(bytes)));
    const wrong = known
      .map(({ bytes, expected }, index) => ({ bytes: hex(bytes), expected, actual: actual[index]! }))
      // It may find more: what traps by itself is emulated from its original just as well.
      .filter(
        ({ expected: { length, silent }, actual: found }) =>
          found !== `${length} 1` && (silent || found !== `${length} 0`),
      );
    expect(known.filter(({ expected }) => expected.silent).length).toBeGreaterThan(1000);
    expect(wrong.slice(0, 5)).toEqual([]);
  });

  it('leaves alone what is not sensitive', () => {
    const plain = known.filter(({ expected }) => !expected.sensitive);
    const found = ask(plain.map(({ bytes }) => hex(bytes)));
    expect(plain.length).toBeGreaterThan(1000);
    expect(plain.filter((_, index) => !found[index]!.endsWith(' 0')).map(({ bytes }) => hex(bytes))).toEqual(
      [],
    );
  });
});
