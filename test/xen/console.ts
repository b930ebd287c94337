/** A console of files, for what runs in this process. */

import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GuestConsole, RunStatus } from '../../src/targets/target.ts';

export interface Ran {
  readonly status: RunStatus;
  readonly output: string;
  readonly messages: string;
}

/** Runs `body` with a console on which `typed` is typed; returns what was printed on it. */
export async function withConsole(
  typed: string,
  body: (console: GuestConsole) => Promise<RunStatus>,
): Promise<Ran> {
  const folder = mkdtempSync(join(tmpdir(), 'previrt-test-'));
  const path = (name: string): string => join(folder, name);
  writeFileSync(path('input'), typed, 'latin1');
  const output = openSync(path('output'), 'w');
  const messages = openSync(path('messages'), 'w');
  try {
    // The run closes its input.
    const status = await body({ input: openSync(path('input'), 'r'), output, messages, terminal: false });
    const text = (name: string): string => readFileSync(path(name), 'latin1');
    return { status, output: text('output'), messages: text('messages') };
  } finally {
    closeSync(output);
    closeSync(messages);
    rmSync(folder, { recursive: true });
  }
}
