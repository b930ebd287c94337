/** Modules whose site records lie: where a wedge is below, every one of them is refused. */

import { expect } from 'vitest';
import { guestLines } from '../../guests/conformance/compare.ts';

const verdicts = (output: string): string[] =>
  guestLines(output).filter((line) => /^module\.lies: .*: (accepted|refused)$/.test(line));

/** @param bare what the guest printed where nothing looks at records, so that each was accepted */
export function expectRefusals(bare: string, output: string): void {
  const accepted = verdicts(bare);
  expect(accepted.length).toBeGreaterThan(0);
  expect(verdicts(output)).toEqual(accepted.map((line) => line.replace(/accepted$/, 'refused')));
}
