/**
 * Every spelling of every sensitive instruction, assembled by GNU as and looked
 * at by a decoder: the slot is what its record says.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Decoder, DecoderOptions, Instruction } from 'iced-x86';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { annotate, type CodeWidth } from '../../src/assembly/annotator.ts';
import { SITE_FLAGS, SITE_RECORD_SIZE, SITE_RECORD_VERSION } from '../../src/x86/site-record.ts';
import { kernelPolicy } from './kernel-policy.ts';
import { sensitiveStatements } from './statements.ts';

vi.setConfig({ testTimeout: 60_000 });

const TEXT = 0x100000;
const SITES = 0x400000;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'previrt-slots-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Assembles and links at fixed addresses; the bytes of a section. */
function build(text: string, width: CodeWidth): { text: Buffer; sites: Buffer } {
  const path = (name: string) => join(folder, name);
  writeFileSync(path('a.s'), text);
  execFileSync('as', [`--${width}`, path('a.s'), '-o', path('a.o')]);
  execFileSync('ld', [
    ...[
      '-m',
      width === 32 ? 'elf_i386' : 'elf_x86_64',
      '--no-warnings',
      '-e',
      '0',
      `-Ttext=0x${TEXT.toString(16)}`,
    ],
    ...[
      `--section-start=.previrt.sites=0x${SITES.toString(16)}`,
      '--defsym',
      'table=0x234560',
      '--defsym',
      'vector=0x80',
    ],
    ...[path('a.o'), '-o', path('a.out')],
  ]);
  const section = (name: string) => {
    execFileSync('objcopy', ['-O', 'binary', '-j', name, path('a.out'), path('section')]);
    return readFileSync(path('section'));
  };
  return {
    text: section('.text'),
    sites: text.includes('.previrt.sites') ? section('.previrt.sites') : Buffer.alloc(0),
  };
}

/** Those statements that this assembler takes. */
function accepted(statements: string[], width: CodeWidth): string[] {
  const path = join(folder, 'candidates.s');
  writeFileSync(path, `${statements.join('\n')}\n`);
  const { stderr } = spawnSync('as', [`--${width}`, path, '-o', '/dev/null'], { encoding: 'utf8' });
  const refused = new Set([...stderr.matchAll(/:(\d+): (?:Error|Warning)/g)].map(([, line]) => Number(line)));
  // It takes the segment-base instructions in 32-bit code as well, where they do not exist.
  return statements.filter(
    (statement, index) => !refused.has(index + 1) && !(width === 32 && /^(rd|wr)[fg]sbase/.test(statement)),
  );
}

/** Lengths of the instructions in a piece of code. */
function lengths(code: Buffer, width: CodeWidth, address: number): number[] {
  const decoder = new Decoder(width, code, DecoderOptions.NoInvalidCheck);
  decoder.ip = BigInt(address);
  const instruction = new Instruction();
  const result: number[] = [];
  while (decoder.canDecode) {
    decoder.decodeOut(instruction);
    expect(instruction.isInvalid, `at ${decoder.position}`).toBe(false);
    result.push(instruction.length);
  }
  instruction.free();
  decoder.free();
  return result;
}

describe.each([
  [32, false],
  [32, true],
  [64, false],
  [64, true],
] as const)('slots of %i-bit code, absolute: %s', (width, absolute) => {
  it('hold one widened instruction each, the original at its end', () => {
    const statements = accepted(sensitiveStatements(width), width).filter(
      // Moves between general registers have no site.
      (statement) => annotate(statement, kernelPolicy, width).sites === 1,
    );
    expect(statements.length).toBeGreaterThan(350);
    const source = `${statements.join('\n')}\n`;
    const plain = build(source, width).text;
    const originals = lengths(plain, width, TEXT);
    expect(originals.length).toBe(statements.length);

    const annotated = build(annotate(source, { ...kernelPolicy, absolute }, width).text, width);
    expect(annotated.sites.length).toBe(statements.length * SITE_RECORD_SIZE);
    let expectedAddress = TEXT;
    let plainOffset = 0;
    statements.forEach((statement, index) => {
      const at = index * SITE_RECORD_SIZE;
      const address = SITES + at + annotated.sites.readInt32LE(at);
      const length = annotated.sites[at + 4] as number;
      const widening = annotated.sites[at + 5] as number;
      const flags = annotated.sites.readUInt16LE(at + 8);
      const original = originals[index] as number;
      const slot = annotated.text.subarray(address - TEXT, address - TEXT + length);

      expect(address, statement).toBe(expectedAddress);
      expect(annotated.sites.readUInt16LE(at + 10)).toBe(SITE_RECORD_VERSION);
      expect(Boolean(flags & SITE_FLAGS.absolute)).toBe(absolute);
      expect(Boolean(flags & SITE_FLAGS.long)).toBe(width === 64);
      expect(length, statement).toBeGreaterThanOrEqual(absolute ? 6 : 5);
      expect(length, statement).toBe(widening + original);
      const inside = lengths(slot, width, address);
      if (flags & SITE_FLAGS.interiorBoundary) expect(inside.length, statement).toBeGreaterThan(1);
      else expect(inside, statement).toEqual([length]);
      if (!statement.includes('rip')) {
        const bytes = plain.subarray(plainOffset, plainOffset + original);
        expect(slot.subarray(widening).toString('hex'), statement).toBe(bytes.toString('hex'));
      }
      expectedAddress += length;
      plainOffset += original;
    });
  });
});
