/** Bare, with a QEMU that is not well: programs and sockets that only do as if. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PROCESSORS } from '../../src/machine/state.ts';
import { machineOptions } from '../../src/targets/bare/command-line.ts';
import { QemuGone } from '../../src/targets/bare/listen.ts';
import type { Payer } from '../../src/targets/bare/owed-ticks.ts';
import { QemuGuest, takeStream, writeStream } from '../../src/targets/bare/qemu-guest.ts';
import type { Qmp } from '../../src/targets/bare/qmp.ts';
import { Typist } from '../../src/targets/bare/typist.ts';
import { NO_PLAN } from '../../src/targets/resume-plan.ts';
import { wallTime } from '../../src/targets/wall-time.ts';
import { emptyState } from '../machine/state-fixture.ts';
import { linkImage, sitesText } from '../sites/fixture.ts';

const PREVIRT = join(import.meta.dirname, '..', '..', 'bin', 'previrt');

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'previrt-qemu-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** A control socket that gives these answers, and to all else an empty one. */
const qmpWith = (answers: Readonly<Record<string, (args: { uri: string }) => unknown>>): Qmp =>
  ({
    execute: async (command: string, args: { uri: string }) => answers[command]?.(args) ?? {},
    eventTime: () => undefined,
  }) as unknown as Qmp;

const completed = () => ({ status: 'completed' });
const failed = () => ({ status: 'failed' });

describe('the files of a stream are not left', () => {
  const file = (name: string): string => join(folder, name);
  const write = () => writeFileSync(file('outgoing'), 'stream');

  it('that was written', async () => {
    const bytes = await writeStream(qmpWith({ migrate: write, 'query-migrate': completed }), folder);
    expect(Buffer.from(bytes).toString()).toBe('stream');
    expect(readdirSync(folder)).toEqual([]);
  });

  it('that could not be written', async () => {
    const written = writeStream(qmpWith({ migrate: write, 'query-migrate': failed }), folder);
    await expect(written).rejects.toThrow('QEMU could not migrate the machine');
    expect(readdirSync(folder)).toEqual([]);
  });

  it('that was taken', async () => {
    writeFileSync(file('incoming'), 'stream');
    await takeStream(qmpWith({ 'query-migrate': completed }), file('incoming'));
    expect(readdirSync(folder)).toEqual([]);
  });
});

it('what is typed goes to the UART as it has room, and is waited for as long as it is read', async () => {
  let uart = Buffer.alloc(0);
  let seen = '';
  let reads = true;
  const readPort = async (): Promise<number> => {
    if (!reads) return 1;
    const before = uart.length;
    seen += uart.toString();
    uart = Buffer.alloc(0);
    return before > 0 ? 0x61 : 0x60;
  };
  const typist = new Typist({ readPort }, (bytes) => {
    uart = Buffer.concat([uart, bytes]);
    expect(uart.length).toBeLessThanOrEqual(16);
  });
  const text = 'typed '.repeat(1000);
  const room = typist.type(Buffer.from(text));
  expect(room).toBeDefined();
  expect(await typist.read()).toBe(0);
  await room;
  expect(seen).toBe(text);
  reads = false;
  expect(typist.type(Buffer.from('not read'))).toBeUndefined();
  expect(await typist.read()).toBe(8);
  typist.close();
});

it('a guest whose state cannot be had goes on, and has the ticks that it was owed', async () => {
  const log = join(folder, 'log');
  writeFileSync(log, '');
  let taken = 0;
  let takes = false;
  let gone = false;
  const payer: Payer = {
    file: log,
    log: async () => {},
    tick: async () => {
      if (gone) throw new QemuGone('it has ended');
      if (!takes) return;
      taken++;
      appendFileSync(log, 'pic_interrupt irq 0 intno 48\n');
    },
  };
  const state = emptyState(4096);
  const [timer, ...others] = state.devices.i8254.channels;
  const channel = {
    ...timer!,
    mode: 2,
    period: 65_536,
    loaded: 1,
    running: 1,
    gate: 1,
    reload_at: 2n ** 64n - 1n,
  };
  const i8254 = { ...state.devices.i8254, channels: [channel, ...others], backlog: 50 };
  const stopped = { ...state, wall_time: wallTime(), devices: { ...state.devices, i8254 } };
  const known = {
    ramSize: 4096,
    features: PROCESSORS.pentium3,
    sites: [],
    linkOffset: 0,
    modules: undefined,
  };
  const done: string[] = [];
  const qmp = qmpWith({
    'query-migrate': failed,
    stop: () => done.push('stop'),
    cont: () => done.push('cont'),
  });
  const guest = new QemuGuest(
    { qmp, payer, folder, read: async () => void done.push('read'), end: () => {} },
    known,
    stopped,
  );
  await guest.goOn();
  await expect(guest.stop()).rejects.toThrow('QEMU could not migrate');
  expect(done).toEqual(['cont', 'read', 'stop', 'cont']);
  takes = true;
  await expect.poll(() => taken, { timeout: 10_000 }).toBeGreaterThanOrEqual(50);
  gone = true;
});

/** It connects to the sockets that it is told of, and then does what it is there for. */
const program = (then: string): string => `#!${process.execPath}
const { connect } = require('node:net');
const { createInterface } = require('node:readline');
const { appendFileSync, truncateSync, writeFileSync } = require('node:fs');
const option = (name) => process.argv[process.argv.indexOf(name) + 1];
const qmp = connect(option('-qmp').slice('unix:'.length));
connect(option('-qtest').slice('unix:'.length));
qmp.write('{"QMP": {}}\\n');
createInterface(qmp).on('line', (line) => {
  const { id, execute } = JSON.parse(line);
  if (execute === 'qmp_capabilities') qmp.write(JSON.stringify({ id, return: {} }) + '\\n');
  else { ${then} }
});
`;

/** What `previrt run` says, and its status, with such a QEMU. */
async function run(then: string, tmpdir = folder) {
  const bin = join(folder, 'bin');
  mkdirSync(bin);
  writeFileSync(join(bin, 'qemu-system-i386'), program(then));
  chmodSync(join(bin, 'qemu-system-i386'), 0o755);
  writeFileSync(join(folder, 'vmlinux'), linkImage({ text: sitesText(), base: '0x1000000' }));
  const previrt = spawn(PREVIRT, ['run', 'vmlinux', '--target', 'bare'], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, TMPDIR: tmpdir, PATH: `${bin}${delimiter}${process.env.PATH}`, PREVIRT_DEBUG: '' },
  });
  let said = '';
  previrt.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  try {
    const [status] = await once(previrt, 'close', { signal: AbortSignal.timeout(30_000) });
    return { status, said };
  } finally {
    previrt.kill();
  }
}

it('what QEMU refuses ends the run, and is said', async () => {
  expect(await run(`qmp.write(JSON.stringify({ id, error: { desc: 'no ' + execute } }) + '\\n');`)).toEqual({
    status: 1,
    said: 'previrt: no qom-list\n',
  });
});

it('it finds its files in a folder whose name is long and has signs in it', async () => {
  const tmpdir = `${'long'.repeat(30)},%:"\n`;
  mkdirSync(join(folder, tmpdir));
  const crash = "appendFileSync(option('-D'), 'Triple fault\\n'); process.exit(0);";
  expect(await run(crash, tmpdir)).toEqual({
    status: 4,
    said: expect.stringContaining('previrt: the guest crashed: a triple fault\n'),
  });
  expect(readdirSync(join(folder, tmpdir))).toEqual([]);
});

it("a disk's path is one, whatever QEMU takes for a protocol", async () => {
  const options = await machineOptions(folder, { memory: 2 ** 24, disk: 'nbd:a,b' }, NO_PLAN);
  expect(options.find((option) => option.includes('file='))).toMatch(/,file=\/.*\/nbd:a,,b$/);
});

it('a crash is found at the end of a log that is larger than a text can be', async () => {
  const crash = `
    writeFileSync(option('-D'), '');
    truncateSync(option('-D'), 2 ** 30);
    appendFileSync(option('-D'), 'Triple fault\\n');
    process.exit(0);`;
  expect(await run(crash)).toEqual({
    status: 4,
    said: expect.stringContaining('previrt: the guest crashed: a triple fault\n'),
  });
});
