/** The ports of the board, and ports where nothing is. */

import { expect, test } from 'vitest';
import { answersOf, runHarness } from './harness.ts';

test.each([
  ['the keyboard controller', 'out 0x64 1 0xfe'],
  ['port 92', 'out 0x92 1 1'],
  ['port cf9', 'out 0xcf9 1 6'],
])('%s resets the machine', (_, command) => {
  expect(runHarness([command])).toEqual(['reset']);
});

test.each([
  'out 0x64 1 0xd1',
  'out 0x92 1 2',
  'out 0xcf9 1 2',
  'out 0xcf8 4 0x06060606',
  'out 0x60 1 0xfe',
  'out 0x80 1 0xfe',
])('this does not: %s', (command) => {
  expect(runHarness([command])).toEqual(['ok']);
});

test('A20 is kept, the speaker bits of port 61 too', () => {
  const script = ['in 0x92 1', 'out 0x92 1 0', 'in 0x92 1', 'out 0x61 1 3', 'in 0x61 1', 'in 0xcf9 1'];
  expect(answersOf(script, ['in'])).toEqual(['0x2', '0x0', '0x23', '0x0']);
});

test('nothing answers with all ones of the width that was read', () => {
  const absent = [0x64, 0x3d0, 0x2f8, 0x1f0, 0x3e8, 0xffff];
  const script = absent.flatMap((port) => [1, 2, 4].map((size) => `in ${port} ${size}`));
  expect(answersOf(script, ['in'])).toEqual(absent.flatMap(() => ['0xff', '0xffff', '0xffffffff']));
});

test('wide accesses to 8-bit devices are split into bytes', () => {
  expect(answersOf(['out 0x3ff 1 0x5a', 'in 0x3fe 2', 'out 0x3fb 2 0x0003', 'in 0x3fb 4'], ['in'])).toEqual([
    '0x5ab0',
    '0xb0600003',
  ]);
});
