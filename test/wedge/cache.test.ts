/** The MMU's cache when there is more to map than it has room for. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { hostedHeaders } from '../../src/targets/hosted/headers.ts';

const WEDGE = fileURLToPath(new URL('../../wedge', import.meta.url));
const HARNESS = fileURLToPath(new URL('./cache-harness.c', import.meta.url));
const PARTS = ['ahead', 'cache', 'copy', 'fill', 'flush', 'late', 'log', 'walk'] as const;

/** Replay a failure with PREVIRT_SEED. */
const SEED = Number(process.env.PREVIRT_SEED ?? Date.now() % 2 ** 31);

let work = '';

beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'previrt-cache-'));
  for (const [path, text] of hostedHeaders()) {
    mkdirSync(dirname(join(work, path)), { recursive: true });
    writeFileSync(join(work, path), text);
  }
  const flags = [
    '-O1',
    '-g',
    '-fsanitize=address,undefined',
    '-fno-sanitize-recover',
    '-w',
    '-DREGION_POOL=64',
  ];
  const parts = [...PARTS.map((part) => `mmu/${part}.c`), 'core/string.c'];
  const sources = [HARNESS, ...parts.map((part) => join(WEDGE, part))];
  execFileSync('gcc', [...flags, `-I${work}`, `-I${WEDGE}`, '-o', join(work, 'harness'), ...sources]);
});

afterAll(() => rmSync(work, { recursive: true, force: true }));

describe(`the MMU's cache (PREVIRT_SEED=${SEED})`, () => {
  it('makes room among what is not in use, and maps nothing beyond 4 GiB', () => {
    expect(execFileSync(join(work, 'harness'), [`${SEED}`], { encoding: 'utf8' })).toBe('ok\n');
  });
});
