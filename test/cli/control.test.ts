/** The control socket: who may use it, and its end. */

import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { openControl } from '../../src/cli/control.ts';

const folder = mkdtempSync(join(tmpdir(), 'previrt-control-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it("is its owner's alone, whatever the umask", async () => {
  const path = join(folder, 'private');
  const before = process.umask(0);
  try {
    const close = await openControl(path, async () => ({}));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(process.umask()).toBe(0);
    close();
  } finally {
    process.umask(before);
  }
});

it('does not wait at its end for a client that stays', async () => {
  const path = join(folder, 'stays');
  const close = await openControl(path, async () => ({}));
  const client = connect({ path, allowHalfOpen: true });
  client.write('{}\n');
  await once(client, 'data');
  close();
  await once(client.resume(), 'end');
  // Nobody is there any more.
  client.write('{}\n');
  const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException];
  expect(error.code).toBe('EPIPE');
});
