/** A run behind a command, which here only says what the other end would. */

import { closeSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { awaitsThere, elsewhere, RUNS_THERE } from '../../src/migration/elsewhere.ts';
import { RUN_STATUS, type RunStatus } from '../../src/targets/target.ts';
import { emptyState } from '../machine/state-fixture.ts';

const PAGE = 4096;
const COMES = `echo '${awaitsThere({ limit: 0, features: [] })}' >&2; echo '${RUNS_THERE}' >&2; cat`;

const OUTPUT = join(tmpdir(), `previrt-elsewhere-${process.pid}`);
let output: number;
let input: PassThrough;
let ended: AbortController;
beforeEach(() => {
  output = openSync(OUTPUT, 'w+');
  input = new PassThrough();
  ended = new AbortController();
});
afterEach(() => {
  closeSync(output);
  rmSync(OUTPUT);
});

/** Runs it; once the guest runs there, `act` is called. */
function run(command: string, act: () => void): Promise<RunStatus> {
  const there = elsewhere(command, PAGE, { take: () => {}, release: () => {} });
  if (!('receive' in there)) throw new Error('it is not awaited');
  const start = there.receive(
    async (incoming) => {
      try {
        await incoming.takeUp({ state: emptyState(PAGE), sites: [] });
      } catch {} // It has ended before it had all.
    },
    () => {},
  );
  const console = { input, output, messages: output, terminal: true };
  return start({ console, attach: act, signal: ended.signal });
}

it('ends with the escape at a terminal, which the other end does not have', async () => {
  const status = await run(COMES, () => {
    input.write('typed \x01a');
    input.write('\x01');
    setTimeout(() => input.write('x'), 300);
  });
  expect(status).toBe(RUN_STATUS.done);
  expect(readFileSync(OUTPUT, 'latin1')).toContain('typed \x01');
});

it('that is ended here has not lost itself', async () => {
  expect(await run(COMES, () => ended.abort())).toBe(RUN_STATUS.host);
});

it('that does not come says its last words, even without an end of the line', async () => {
  await expect(run('printf nobody >&2; exit 1', () => {})).rejects.toThrow(/^nobody$/);
});
