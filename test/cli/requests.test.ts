/** What is asked through the control socket. */

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it, vi } from 'vitest';
import { diskLock } from '../../src/cli/disk-lock.ts';
import { answerer } from '../../src/cli/requests.ts';
import type { Session } from '../../src/migration/session.ts';

const cache = mkdtempSync(join(tmpdir(), 'previrt-requests-'));
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(cache, { recursive: true, force: true });
});

it('what a target needs is built before the session waits for it', async () => {
  vi.stubEnv('PREVIRT_CACHE', cache);
  let built: readonly string[] = [];
  const move = async () => {
    built = readdirSync(join(cache, 'wedge'));
    return { stopped: 0, rounds: [] };
  };
  const answer = answerer({ move } as unknown as Session, { ramSize: 4096 }, diskLock(undefined));
  const asker = { tell: () => {}, calledOff: new AbortController().signal };
  expect(await answer({ migrate: { target: 'hosted' } }, asker)).toEqual({ stopped: 0, rounds: [] });
  expect(built).toContainEqual(expect.stringMatching(/^hosted-of-/));
});
