import { describe, expect, it } from 'vitest';
import { type Goal, type Row, verdict } from '../../bench/part.ts';
import { formatReport, type Report, reportJson } from '../../bench/report.ts';

const SMALL: Goal = { better: 'less', must: 1.1, aim: 1 };
const LARGE: Goal = { better: 'more', must: 2, aim: 5 };
const HOPE: Goal = { better: 'more', aim: 1 };

const row = (value: number, goal?: Goal): Row => ({
  what: 'a thing',
  value,
  unit: 'times',
  ...(goal && { goal }),
});

describe('a verdict', () => {
  it.each([
    [0.9, SMALL, 'aim'],
    [1, SMALL, 'aim'],
    [1.05, SMALL, 'must'],
    [1.1, SMALL, 'must'],
    [1.11, SMALL, 'missed'],
    [6, LARGE, 'aim'],
    [5, LARGE, 'aim'],
    [2, LARGE, 'must'],
    [1.99, LARGE, 'missed'],
    [1, HOPE, 'aim'],
    [0.5, HOPE, 'below aim'],
    [7, undefined, undefined],
  ] as const)('of %d with the goal %o is %s', (value, goal, expected) => {
    expect(verdict(row(value, goal))).toBe(expected);
  });

  it('is missed where there is no number', () => {
    expect(verdict(row(Number.NaN, SMALL))).toBe('missed');
    expect(verdict(row(Number.NaN, LARGE))).toBe('missed');
  });
});

const REPORT: Report = {
  machine: { processor: 'A Processor', processors: 2, system: 'Linux 6.1', load: 0.126 },
  parts: [
    {
      part: 'speed',
      rows: [
        { what: 'annotator', value: 17.25, unit: 'MB/s', goal: { better: 'more', must: 15, aim: 31 } },
        { what: 'peer', value: 1234.5678, unit: 'MB/s' },
      ],
    },
    {
      part: 'ratio',
      rows: [{ what: 'instructions', value: 1.00025, unit: 'ratio', goal: SMALL }, row(0.5, HOPE)],
      figures: {
        title: 'all figures',
        columns: ['row', 'ours', 'theirs'],
        lines: [
          ['a long name', 1, '20.0'],
          ['b', undefined, 3],
        ],
      },
    },
  ],
};

describe('the report', () => {
  it('is a table with goals and verdicts, then the figures', () => {
    expect(formatReport(REPORT)).toBe(`A Processor, 2 processors, Linux 6.1; load 0.13 at the start

part   what           value  unit   must    aim    reached
speed  annotator       17.3  MB/s   >= 15   >= 31  must
speed  peer          1234.6  MB/s
ratio  instructions  1.0003  ratio  <= 1.1  <= 1   must
ratio  a thing         0.50  times          >= 1   below aim

all figures
row          ours  theirs
a long name     1    20.0
b               -       3
`);
  });

  it('is JSON with every digit', () => {
    const json = JSON.parse(JSON.stringify(reportJson(REPORT)));
    expect(json.machine.processors).toBe(2);
    expect(json.parts.map(({ part }: { part: string }) => part)).toEqual(['speed', 'ratio']);
    expect(json.parts[1].rows[0]).toEqual({
      what: 'instructions',
      value: 1.00025,
      unit: 'ratio',
      goal: { better: 'less', must: 1.1, aim: 1 },
      reached: 'must',
    });
    expect(json.parts[0].rows[1].reached).toBeNull();
    expect(json.parts[0]).not.toHaveProperty('figures');
    expect(json.parts[1].figures.lines[1]).toEqual(['b', null, 3]);
  });
});
