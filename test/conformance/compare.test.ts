import { describe, expect, it } from 'vitest';
import { compareOutputs, describeComparison, guestLines } from '../../guests/conformance/compare.ts';

const EXPECTED = [
  'SeaBIOS',
  'a.one: 1',
  'a.one: 2',
  '# eip 123',
  'a.two: x',
  'conformance: done 2 tests',
].join('\n');

describe('guestLines', () => {
  it('keeps what the tests printed', () => {
    expect(guestLines(`${EXPECTED}\r\n`)).toEqual([
      'a.one: 1',
      'a.one: 2',
      'a.two: x',
      'conformance: done 2 tests',
    ]);
  });
});

describe('compareOutputs', () => {
  it('finds nothing in equal outputs, whatever their commentary', () => {
    const comparison = compareOutputs(EXPECTED, EXPECTED.replace('# eip 123', '# eip 456'), []);
    expect(comparison).toMatchObject({ same: 4, differences: [], excused: [] });
  });

  it('reports a changed line under its test', () => {
    const { differences } = compareOutputs(EXPECTED, EXPECTED.replace('a.one: 2', 'a.one: 3'), []);
    expect(differences).toEqual([{ test: 'a.one', expected: 'a.one: 2', actual: 'a.one: 3' }]);
  });

  it('keeps a lost line from shifting the tests after it', () => {
    const { same, differences } = compareOutputs(EXPECTED, EXPECTED.replace('a.one: 2\n', ''), []);
    expect(same).toBe(3);
    expect(differences).toEqual([{ test: 'a.one', expected: 'a.one: 2', actual: undefined }]);
  });

  it('reports a line too many and a test that never ran', () => {
    const actual = EXPECTED.replace('a.two: x', 'a.one: 3');
    expect(compareOutputs(EXPECTED, actual, []).differences).toEqual([
      { test: 'a.one', expected: undefined, actual: 'a.one: 3' },
      { test: 'a.two', expected: 'a.two: x', actual: undefined },
    ]);
  });

  it('excuses by the expected or the actual line, and names exceptions without effect', () => {
    const used = { pattern: '^a\\.two: ', reason: 'not emulated' };
    const unused = { pattern: '^b\\.', reason: 'no such test' };
    const comparison = compareOutputs(EXPECTED, EXPECTED.replace('a.two: x', 'a.two: y'), [used, unused]);
    expect(comparison.differences).toEqual([]);
    expect(comparison.excused.map(({ exception }) => exception)).toEqual([used]);
    expect(comparison.unused).toEqual([unused]);
    const skipping = { ...unused, skip: 'b' };
    expect(compareOutputs(EXPECTED, EXPECTED, [skipping]).unused).toEqual([]);
    expect(describeComparison(comparison)).toBe(
      '3 lines agree, 0 differ, 1 differ with a reason\nexception without effect: ^b\\.',
    );
  });

  it('shows the first differences, expected over actual', () => {
    const comparison = compareOutputs(EXPECTED, EXPECTED.replaceAll('a.one', 'a.uno'), []);
    expect(describeComparison(comparison, 1)).toBe(
      ['2 lines agree, 4 differ, 0 differ with a reason', '- a.one: 1', '+ (no line)', '... and 3 more'].join(
        '\n',
      ),
    );
  });
});
