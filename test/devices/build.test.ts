import { expect, test } from 'vitest';
import { runHarness, VARIANTS, type Variant } from './harness.ts';

const variants = Object.keys(VARIANTS) as Variant[];

test.each(variants)('the devices compile without a library and answer: %s', (variant) => {
  const commands = ['in 0x21 1', 'out 0x3fb 1 3', 'in 0x3fb 1', 'in 0x2f8 4', 'in 0x3fd 1'];
  expect(runHarness(commands, variant)).toEqual(['0xff', 'ok', '0x3', '0xffffffff', '0x60']);
});
