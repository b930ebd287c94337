/** The conformance guest on v86 prints what it prints on bare QEMU, but for the listed exceptions. */

import { expect, it } from 'vitest';
import { buildConformance } from '../../guests/conformance/build.ts';
import { compareOutputs, describeComparison } from '../../guests/conformance/compare.ts';
import { commandLineFor, exceptionsOf } from '../../guests/conformance/exceptions.ts';
import { runOnQemu } from './qemu.ts';
import { runOnV86 } from './v86.ts';

const TIMEOUT = 240_000;
const LAST_LINE = 'conformance: done';

it(
  'agrees with bare QEMU',
  async () => {
    const kernel = await buildConformance({ annotated: true });
    const expected = await runOnQemu(kernel, '', LAST_LINE, TIMEOUT);
    const actual = await runOnV86(kernel, commandLineFor('v86'), LAST_LINE, TIMEOUT);
    const comparison = compareOutputs(expected, actual, exceptionsOf('v86'));
    expect(comparison.differences, describeComparison(comparison)).toEqual([]);
    expect(comparison.same).toBeGreaterThan(1500);
  },
  2 * TIMEOUT,
);
