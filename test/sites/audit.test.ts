import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { Decoder, DecoderOptions } from 'iced-x86';
import { describe, expect, test } from 'vitest';
import { parseElf } from '../../src/elf/image.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { audit, type Finding } from '../../src/sites/audit.ts';
import { readAllSites } from '../../src/sites/embedded.ts';
import { kindOfCode } from '../../src/sites/instructions.ts';
import { judge, parseAuditRules } from '../../src/sites/justification.ts';
import { linkImage, linkVdso, sitesText, siteText } from './fixture.ts';

/** `kind function` of each finding. */
function found(text: string, embedded?: Uint8Array): string[] {
  const elf = parseElf(linkImage({ text: `${sitesText()}\n${text}`, ...(embedded && { embedded }) }));
  return audit(elf, readAllSites(elf)).findings.map((finding) => `${finding.kind} ${finding.function}`);
}

const fn = (name: string, body: string): string =>
  `.type ${name}, @function\n${name}:\n${body}\n.size ${name}, . - ${name}\n`;

test('a kernel whose sensitive instructions are all sites has no findings', () => {
  expect(found('')).toEqual([]);
});

test('what is not covered is found, with its function', () => {
  expect(found(fn('f', 'nop\npopfl\nmov %ebx, %ds\nret') + fn('g', 'smsw %ax\nwbinvd\nstgi'))).toEqual([
    'popf f',
    'mov_to_seg f',
    'smsw g',
    'wbinvd g',
    'privileged g',
  ]);
});

test('address and text of a finding', () => {
  const elf = parseElf(
    linkImage({
      text: sitesText([{ kind: 'cli', instruction: 'cli', prefixes: 4 }]) + fn('f', 'movl %cr0, %eax'),
    }),
  );
  expect(audit(elf, readAllSites(elf)).findings).toEqual([
    {
      address: 0xc1000006,
      kind: 'mov_from_cr',
      instruction: 'mov %cr0, %eax',
      section: '.text',
      function: 'f',
    },
  ]);
});

describe('no noise', () => {
  test('padding of every length between functions', () => {
    for (let length = 1; length < 32; length++)
      expect(
        found(`${fn('f', 'ret')}.balign 32\n.skip ${length}, 0xcc\n.balign 32\n${fn('g', 'ret')}`),
      ).toEqual([]);
  });

  test('code behind a function that has no symbol itself is looked at', () => {
    expect(found(`${fn('f', '.byte 0xb8')}cli\n${fn('g', 'ret')}`)).toEqual(['cli f']);
  });

  test('objects in the text are not code', () => {
    expect(
      found(`.type table, @object\ntable: .byte 0xfa, 0xfb, 0x0f\n.size table, 3\n${fn('g', 'cli')}`),
    ).toEqual(['cli g']);
  });

  test('decoding finds back to the next function and the next site', () => {
    // b8 begins a 5-byte mov that would swallow what follows.
    expect(found(`first: .byte 0xb8\n${fn('g', 'cli')}`)).toEqual(['cli g']);
    expect(
      found(fn('h', `.byte 0xb8\n${siteText({ kind: 'sti', instruction: 'sti', prefixes: 4 })}\ncli`)),
    ).toEqual(['cli h']);
  });

  test('a label inside a function does not end it', () => {
    expect(found(fn('f', 'nop\ninner: nop\ncli'))).toEqual(['cli inner']);
  });
});

test('the vDSO is looked at, in its own terms', () => {
  const vdso = linkVdso();
  expect(found('', vdso)).toEqual([]);
  const bare = linkImage({ shared: true, text: `.globl now\n${fn('now', 'rdtsc\nret')}` });
  const elf = parseElf(linkImage({ text: sitesText(), embedded: bare }));
  const [finding] = audit(elf, readAllSites(elf)).findings;
  expect(finding).toMatchObject({ kind: 'rdtsc', section: 'vdso:.text', function: 'now' });
});

test('which instructions are sensitive', () => {
  // SDM vol. 3A 2.8, and those that only differ in user mode.
  const table: readonly [string, number[]][] = [
    ['cli', [0xfa]],
    ['popf', [0x9d]],
    ['popf', [0x66, 0x9d]],
    ['iret', [0xcf]],
    ['mov_from_seg', [0x8c, 0xc8]],
    ['mov_to_seg', [0x8e, 0xd8]],
    ['load_far_pointer', [0x0f, 0xb2, 0x20]],
    ['far_ret', [0xcb]],
    ['far_ret', [0xca, 4, 0]],
    ['smsw', [0x0f, 0x01, 0xe0]],
    ['sgdt', [0x0f, 0x01, 0x00]],
    ['str', [0x0f, 0x00, 0xc8]],
    ['verr', [0x0f, 0x00, 0xe0]],
    ['lar', [0x0f, 0x02, 0xc0]],
    ['arpl', [0x63, 0xc0]],
    ['cpuid', [0x0f, 0xa2]],
    ['int', [0xcd, 0x80]],
    ['outs', [0xf3, 0x6e]],
    ['in', [0xe4, 0x21]],
    ['wbinvd', [0xf3, 0x0f, 0x09]],
  ];
  const kinds = (bytes: number[]) => {
    const decoder = new Decoder(32, Uint8Array.from(bytes), DecoderOptions.None);
    const instruction = decoder.decode();
    const kind = kindOfCode(instruction.code);
    instruction.free();
    decoder.free();
    return kind;
  };
  for (const [kind, bytes] of table) expect([kinds(bytes), bytes]).toEqual([kind, bytes]);
  // int3, into, ud2, mwaitx, nop, inc: trap by themselves or are harmless.
  for (const bytes of [[0xcc], [0xce], [0x0f, 0x0b], [0x0f, 0x01, 0xfb], [0x90], [0x40]])
    expect(kinds(bytes)).toBeUndefined();
});

test('any code is audited without an error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 128 }), (code) => {
      const bytes = new Uint8Array(base);
      bytes.set(code, at);
      const elf = parseElf(bytes);
      const { findings } = audit(elf, readAllSites(elf));
      for (const { address } of findings) expect(address).toBeGreaterThanOrEqual(0xc1000000);
    }),
    { numRuns: 500 },
  );
});
const marker = '.byte 1, 2, 3, 4, 5, 6, 7, 8\n';
const base = linkImage({ text: sitesText() + fn('noise', `${marker}.skip 120, 0x90`) });
const at = Buffer.from(base).indexOf(Buffer.from([1, 2, 3, 4, 5, 6, 7, 8]));

describe('justification', () => {
  const finding: Finding = {
    address: 1,
    kind: 'rdtsc',
    instruction: 'rdtsc',
    section: 'vdso:.text',
    function: 'f.part.0',
  };

  test.each([
    [{ section: 'vdso:*' }, true],
    [{ section: 'vdso' }, false],
    [{ function: 'f.part*' }, true],
    [{ function: 'f?part*' }, false],
    [{ section: '*', kinds: ['rdtsc', 'rdtscp'] }, true],
    [{ section: '*', kinds: ['rdtscp'] }, false],
    [{ section: 'vdso:*', function: 'g' }, false],
    [{ instruction: 'rdtsc' }, true],
  ])('%o', (rule, matches) => {
    const { open, justified } = judge([finding], [{ ...rule, reason: 'because' }]);
    expect(open).toEqual(matches ? [] : [finding]);
    expect(justified).toEqual(matches ? [{ ...finding, reason: 'because' }] : []);
  });

  test("Linux's rules are well-formed", () => {
    const path = join(import.meta.dirname, '../../guests/linux/audit.json');
    expect(parseAuditRules(readFileSync(path, 'utf8')).symbol).toBe('linux_banner');
  });

  test.each([
    '',
    '[]',
    '{"symbol":"a","justified":[{}],"data":[]}',
    '{"symbol":"a","justified":[{"reason":"matches everything"}],"data":[]}',
    '{"symbol":"a","justified":[{"section":"*","reason":""}],"data":[]}',
    '{"symbol":"a","justified":[],"data":[{"symbol":"b"}]}',
  ])('refused: %s', (text) => {
    expect(() => parseAuditRules(text)).toThrow(InputError);
  });
});
