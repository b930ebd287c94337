/** Properties of the annotator that hold for every text. */
import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { annotate, type CodeWidth } from '../../src/assembly/annotator.ts';
import { originPatterns, prefilterPatterns } from '../../src/assembly/prefilter.ts';
import { SENSITIVE_MNEMONICS } from '../../src/x86/sensitive.ts';
import { kernelPolicy } from './kernel-policy.ts';
import { sensitiveStatements } from './statements.ts';

const width = fc.constantFrom<CodeWidth>(32, 64);

vi.setConfig({ testTimeout: 60_000 });

/** Pieces of assembler text, out of which anything can be put together, sensible or not. */
const pieces = fc.oneof(
  fc.constantFrom(...sensitiveStatements(32), ...SENSITIVE_MNEMONICS.keys()),
  fc.constantFrom(
    ...[
      '\n',
      '\n',
      '\n\t',
      ';',
      ' ',
      ', ',
      ':',
      '1:',
      '77771:',
      'foo:',
      '.Lbar: ',
      '"',
      "'",
      '\\',
      '#',
      '/',
      '/*',
      '*/',
    ],
    ...[
      '#APP\n',
      '# 12 "file.c" 1\n',
      'rep',
      'rep; ',
      'lock ',
      'cs ',
      '.byte ',
      '0x0f',
      '0x01,0xca',
      '.fill a - ., 1',
    ],
    ...[
      '.macro m a',
      '.endm',
      'm cli',
      'm "sti; hlt"',
      '\\a',
      '.rept 2',
      '.endr',
      '.irp x, cli, sti',
      '(',
      ')',
      '%cr0',
    ],
    ...[
      '.section .altinstr_replacement,"ax"',
      '.pushsection .data',
      '.popsection',
      '.previous',
      '.text',
      '.code16',
    ],
    ...[
      '.code32',
      '.intel_syntax',
      '.att_syntax',
      '.previrt off',
      '.previrt on',
      'movl %eax, %ebx',
      'jc 1b',
      'ret',
    ],
  ),
  fc.string({ unit: 'binary-ascii', maxLength: 5 }),
);
const text = fc.array(pieces, { maxLength: 40 }).map((parts) => parts.join(''));

/** Statements that are none of the annotator's business. */
const harmless = fc
  .array(
    fc.constantFrom(
      '\tmovl\t%eax, %ebx',
      '\tmov\t%fs:0, %eax\t# cli',
      'cli:\tnop; /* sti */ nop',
      '\t.string "cli; hlt"',
      '\tpush\t%eax',
      '\t.loc 1 2 3 view .LVU4',
      '1:\trep; movsb',
      '\tlock; incl (%eax)',
      '\tcall\tsti',
      '\tint3',
      '\t.fill cli - ., 1, 0xcc',
      "\tcmpb\t$';, %al",
      '\t.byte 0x0f,0x0b',
      '# 7 "cli.c"',
      '',
    ),
    { maxLength: 60 },
  )
  .map((lines) => lines.join('\n'));

/** In a POSIX bracket expression a backslash is itself. */
const fromPosix = (pattern: string) => pattern.replaceAll('/\\]', '/\\\\]').replaceAll('[:space:]', '\\s');

describe('annotate', () => {
  it('returns a text without sites as it is', () => {
    fc.assert(
      fc.property(harmless, width, (input, bits) => {
        expect(annotate(input, kernelPolicy, bits)).toEqual({ text: input, sites: 0, notes: [] });
      }),
    );
  });

  it('changes nothing when it is run again', () => {
    fc.assert(
      fc.property(text, width, (input, bits) => {
        const once = annotate(input, kernelPolicy, bits).text;
        expect(annotate(once, kernelPolicy, bits).text).toBe(once);
      }),
      { numRuns: 2000 },
    );
  });

  it('keeps every line on its line, but for definitions above a line marker', () => {
    fc.assert(
      fc.property(text, width, (input, bits) => {
        const lines = (s: string) => s.split('\n').length;
        const output = annotate(input, kernelPolicy, bits).text;
        const added = output.startsWith('.macro previrt_site') && input.startsWith('#') ? 1 : 0;
        expect(lines(output)).toBe(lines(input) + added);
      }),
      { numRuns: 1000 },
    );
  });

  it('takes time in proportion to the text', () => {
    const seconds = (repetitions: number) => {
      const worst = ['77771:;', '"', 'push $1;', 'cli;', '.intel_syntax;', '/*', "'", 'm "'];
      const input = worst.map((piece) => `${piece.repeat(repetitions)}\n`).join('"*/\n');
      const before = process.hrtime.bigint();
      annotate(`.macro m\nlgdt (${','.repeat(4 * repetitions)}\n${input}`, kernelPolicy, 32);
      return Number(process.hrtime.bigint() - before) / 1e9;
    };
    seconds(1000);
    // The best of several runs, for other programs take time as well.
    const best = (repetitions: number) => Math.min(...[1, 2, 3].map(() => seconds(repetitions)));
    const [small, large] = [best(4000), best(64_000)];
    expect(large / small).toBeLessThan(16 * 8);
  });
});

describe('the prefilter', () => {
  it('never passes over a text with sites', () => {
    const patterns = [...prefilterPatterns(), ...originPatterns(kernelPolicy, [])].map(
      (pattern) => new RegExp(fromPosix(pattern), 'im'),
    );
    fc.assert(
      fc.property(text, width, (input, bits) => {
        const { text: output } = annotate(input, kernelPolicy, bits);
        fc.pre(output !== input);
        expect(patterns.some((pattern) => pattern.test(input))).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });
});
