/** The windows through which the wedge sees guest RAM on Xen. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { xenHeaders } from '../../src/targets/xen/headers.ts';

const WEDGE = fileURLToPath(new URL('../../wedge', import.meta.url));
const HARNESS = fileURLToPath(new URL('./windows-harness.c', import.meta.url));

/** Replay a failure with PREVIRT_SEED. */
const SEED = Number(process.env.PREVIRT_SEED ?? Date.now() % 2 ** 31);

let work = '';

beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'previrt-windows-'));
  for (const [path, text] of xenHeaders()) {
    mkdirSync(dirname(join(work, path)), { recursive: true });
    writeFileSync(join(work, path), text);
  }
  // Most of the file is not reached from the harness, and what that would need is not there.
  const flags = ['-O1', '-g', '-w', '-ffunction-sections', '-Wl,--gc-sections'];
  execFileSync('gcc', [...flags, `-I${work}`, `-I${WEDGE}`, '-o', join(work, 'harness'), HARNESS]);
});

afterAll(() => rmSync(work, { recursive: true, force: true }));

describe(`windows on RAM (PREVIRT_SEED=${SEED})`, () => {
  it('show what is asked for, as long as is promised, however much that is', () => {
    expect(execFileSync(join(work, 'harness'), [`${SEED}`], { encoding: 'utf8', timeout: 30_000 })).toBe(
      'ok\n',
    );
  });
});
