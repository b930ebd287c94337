/** The MMU's cache when there is more to map than it has room for. */

import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Harness } from './harness.ts';

const PARTS = ['ahead', 'cache', 'copy', 'fill', 'flush', 'late', 'log', 'walk'] as const;

/** Replay a failure with PREVIRT_SEED. */
const SEED = Number(process.env.PREVIRT_SEED ?? Date.now() % 2 ** 31);

let harness: Harness;

beforeAll(() => {
  harness = new Harness('cache', [...PARTS.map((part) => `mmu/${part}.c`), 'core/string.c'], {
    defines: ['-DREGION_POOL=64'],
  });
});

afterAll(() => harness.remove());

describe(`the MMU's cache (PREVIRT_SEED=${SEED})`, () => {
  it('makes room among what is not in use, and maps nothing beyond 4 GiB', () => {
    expect(execFileSync(harness.program, [`${SEED}`], { encoding: 'utf8' })).toBe('ok\n');
  });
});
