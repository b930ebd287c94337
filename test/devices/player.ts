/**
 * Plays a timed script on QEMU's devices and on ours, at the same nanoseconds.
 *
 * The script is made of the harness's `out`, `in` and `ack`, and of
 * `wait NS`. QEMU plays it with the guest of player.c; each step's time is
 * then given to the harness.
 */

import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { runHarness, type Variant } from './harness.ts';
import { scratchDirectory } from './scratch.ts';

/** Also in player.c. */
const VERBS: Readonly<Record<string, number>> = { out: 1, in: 2, ack: 3, wait: 4 };
const STEP_SIZE = 8;
const OUTCOME_SIZE = 16;

/** One instruction takes 2^5 ns; the access is the fifth instruction after the clock was read. */
const ICOUNT_SHIFT = 5;
const ACCESS_DELAY = 5 << ICOUNT_SHIFT;
/** The answer to `ack` where no interrupt came. */
const NO_VECTOR = 0xffffffff;
const DEBUG_EXIT_STATUS = 1;

/** The real-time clock when QEMU starts: shortly before the end of a February. */
export const WALL_CLOCK = '2024-02-28T23:59:55';

const QEMU = [
  ...[
    '-machine',
    'pc',
    '-accel',
    'tcg',
    '-cpu',
    'qemu32,-apic',
    '-m',
    '16',
    '-nodefaults',
    '-display',
    'none',
  ],
  ...['-icount', `shift=${ICOUNT_SHIFT},sleep=off`, '-rtc', `base=${WALL_CLOCK},clock=vm`, '-serial', 'null'],
  ...['-device', 'isa-debug-exit,iobase=0x501,iosize=2'],
];

let player: string | undefined;

function buildPlayer(): string {
  if (player) return player;
  const program = path.join(scratchDirectory(), 'player');
  const flags = [
    '-m32',
    '-ffreestanding',
    '-mgeneral-regs-only',
    '-fno-pie',
    '-no-pie',
    '-O1',
    '-Wall',
    '-Werror',
  ];
  const link = [
    '-nostdlib',
    '-static',
    '-Wl,--build-id=none',
    '-Wl,-Ttext=0x100000',
    '-Wl,--section-start=.multiboot=0xff000',
  ];
  execFileSync('gcc', [...flags, ...link, path.join(import.meta.dirname, 'player.c'), '-o', program], {
    stdio: 'pipe',
  });
  player = program;
  return program;
}

function encode(script: readonly string[]): Buffer {
  const bytes = Buffer.alloc((script.length + 1) * STEP_SIZE);
  script.forEach((command, i) => {
    const [verb = '', a = 0, b = 1, c = 0] = command
      .split(' ')
      .map((word, n) => (n === 0 ? word : Number(word))) as [string, number?, number?, number?];
    bytes.writeUInt8(VERBS[verb]!, i * STEP_SIZE);
    bytes.writeUInt8(b, i * STEP_SIZE + 1);
    bytes.writeUInt16LE(verb === 'wait' ? 0 : a, i * STEP_SIZE + 2);
    bytes.writeUInt32LE(verb === 'wait' ? a : c, i * STEP_SIZE + 4);
  });
  return bytes;
}

interface Outcome {
  /** QEMU's virtual clock at the access, in nanoseconds. */
  readonly time: bigint;
  readonly value: number;
}

function playOnQemu(script: readonly string[]): Outcome[] {
  const kernel = buildPlayer();
  const directory = scratchDirectory();
  const scriptFile = path.join(directory, 'script');
  const record = path.join(directory, 'record');
  writeFileSync(scriptFile, encode(script));
  const command = [...QEMU, '-kernel', kernel, '-initrd', scriptFile, '-debugcon', `file:${record}`];
  const result = spawnSync('qemu-system-i386', command, { encoding: 'utf8', timeout: 60_000 });
  if (result.status !== DEBUG_EXIT_STATUS)
    throw new Error(`QEMU: ${result.signal ?? result.status} ${result.stderr}`);
  const bytes = readFileSync(record);
  const start = bytes.length - script.length * OUTCOME_SIZE; // the firmware may have written in front of it
  return script.map((_, i) => ({
    time: bytes.readBigUInt64LE(start + i * OUTCOME_SIZE),
    value: bytes.readUInt32LE(start + i * OUTCOME_SIZE + 8),
  }));
}

export interface Played {
  /** "step: time: command -> answer" for each step with an answer; nanoseconds since the first step. */
  readonly ours: readonly string[];
  readonly qemus: readonly string[];
}

/** @param script steps; accesses are one or four bytes wide. A fourth word of an `in` is a mask of what to compare. */
export function play(script: readonly string[], variant: Variant = 'x86-64'): Played {
  const outcomes = playOnQemu(script);
  const start = outcomes[0]!.time;
  const wall = BigInt(Date.parse(`${WALL_CLOCK}Z`)) * 1_000_000n;
  const commands = [`time ${start}`, `wall ${wall}`, 'reset 0x1000000 0'];
  const answerAt: number[] = [];
  script.forEach((step, i) => {
    commands.push(`until ${outcomes[i]!.time + BigInt(ACCESS_DELAY)}`);
    answerAt.push(commands.length);
    if (!step.startsWith('wait')) commands.push(step);
  });
  const answers = runHarness(commands, variant);
  const asked = script.flatMap((step, i) => (/^(in|ack)/.test(step) ? [i] : []));
  const line = (i: number, value: number) =>
    `${i}: ${outcomes[i]!.time - start} ns: ${script[i]} -> ${answerOf(script[i]!, value)}`;
  const ours = (i: number): number =>
    answers[answerAt[i]!] === 'none' ? NO_VECTOR : Number(answers[answerAt[i]!]);
  return {
    ours: asked.map((i) => line(i, ours(i))),
    qemus: asked.map((i) => line(i, outcomes[i]!.value)),
  };
}

function answerOf(command: string, value: number): string {
  const mask = Number(command.split(' ')[3] ?? 0xffffffff);
  return command === 'ack' && value === NO_VECTOR ? 'none' : `0x${((value & mask) >>> 0).toString(16)}`;
}
