/** The windows through which the wedge sees guest RAM on Xen. */

import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { xenHeaders } from '../../src/targets/xen/headers.ts';
import { Harness } from './harness.ts';

/** Most of the file is not reached from the harness, and what that would need is not there. */
const FLAGS = ['-ffunction-sections', '-Wl,--gc-sections'];

/** Replay a failure with PREVIRT_SEED. */
const SEED = Number(process.env.PREVIRT_SEED ?? Date.now() % 2 ** 31);

let harness: Harness;

beforeAll(() => {
  harness = new Harness('windows', [], { headers: xenHeaders(), flags: FLAGS });
});

afterAll(() => harness.remove());

describe(`windows on RAM (PREVIRT_SEED=${SEED})`, () => {
  it('show what is asked for, as long as is promised, however much that is', () => {
    expect(execFileSync(harness.program, [`${SEED}`], { encoding: 'utf8', timeout: 30_000 })).toBe('ok\n');
  });
});
