/** The control socket: who may use it, and its end. */

import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { openControl, request } from '../../src/cli/control.ts';

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

it.each(['47113', '0', '1e3'])('is in the file system, whatever its name: %s', async (name) => {
  const path = join('.', name);
  expect(existsSync(path)).toBe(false);
  const close = await openControl(path, async () => ({ answer: 1 }));
  expect(statSync(path).isSocket()).toBe(true);
  expect(await request(path, {})).toEqual({ answer: 1 });
  close();
  expect(existsSync(path)).toBe(false);
});

it('takes the place of one whose run was killed, and of nothing else', async () => {
  const path = join(folder, 'left');
  const listens = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', listens]);
  expect(statSync(path).isSocket()).toBe(true);
  const close = await openControl(path, async () => ({ answer: 1 }));
  expect(await request(path, {})).toEqual({ answer: 1 });
  await expect(openControl(path, async () => ({}))).rejects.toThrow('there is something already');
  expect(await request(path, {})).toEqual({ answer: 1 });
  close();
  writeFileSync(path, 'file');
  await expect(openControl(path, async () => ({}))).rejects.toThrow('there is something already');
  expect(readFileSync(path, 'utf8')).toBe('file');
});

it('is nowhere without a name', async () => {
  await expect(openControl('', async () => ({}))).rejects.toThrow('cannot listen at');
  await expect(request('', {})).rejects.toThrow('cannot reach a run at');
});

it('has all of its path, or is not made', async () => {
  const path = join(folder, 'a'.repeat(108 - folder.length));
  await expect(openControl(path, async () => ({}))).rejects.toThrow(`${path}: too long for a socket`);
  await expect(request(path, {})).rejects.toThrow(`${path}: too long for a socket`);
  expect(readdirSync(folder)).not.toContainEqual(expect.stringMatching(/^a+$/));
});

it.each(['HTTP/1.1 400 Bad Request\r\n', 'null\n'])('what answers %j is no run', async (text) => {
  const path = join(folder, 'other');
  const server = createServer((socket) => socket.on('error', () => {}).end(text)).listen(path);
  await once(server, 'listening');
  await expect(request(path, {})).rejects.toThrow(`${path}: whoever listens there is no run of previrt's`);
  server.close();
});
