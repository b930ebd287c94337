/** Builds the devices into a hosted program and runs scripts of its commands (see harness.c). */

import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { vi } from 'vitest';
import { deviceStateHeader } from '../../src/machine/devices.ts';
import { scratchDirectory } from './scratch.ts';

/** Every test here compiles C or starts QEMU, on machines that may be busy. */
vi.setConfig({ testTimeout: 60_000 });

const HERE = import.meta.dirname;
const WEDGE = path.join(HERE, '../../wedge');
const STRICT = ['-ffreestanding', '-mgeneral-regs-only', '-Wall', '-Wextra', '-Werror', '-O2'];
const SANITIZE = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-g'];

/** How the harness is built: the width of the devices' code, or checked at run time. */
export const VARIANTS = {
  i386: { devices: ['-m32'], program: ['-m32'] },
  'x86-64': { devices: ['-m64'], program: ['-m64'] },
  sanitized: { devices: ['-m64', ...SANITIZE], program: ['-m64', ...SANITIZE] },
} as const;

export type Variant = keyof typeof VARIANTS;

const built = new Map<Variant, string>();

/** The harness's path. Compiled at most once in each test process. */
export function buildHarness(variant: Variant): string {
  const known = built.get(variant);
  if (known) return known;
  const directory = scratchDirectory();
  mkdirSync(path.join(directory, 'generated'));
  writeFileSync(path.join(directory, 'generated/devices-state.h'), deviceStateHeader());
  const include = [`-I${WEDGE}`, `-I${directory}`];
  const sources = readdirSync(path.join(WEDGE, 'devices'))
    .filter((name) => name.endsWith('.c'))
    .map((name) => path.join(WEDGE, 'devices', name));
  const flags = VARIANTS[variant];
  execFileSync('gcc', [...STRICT, ...flags.devices, ...include, '-c', ...sources], {
    cwd: directory,
    stdio: 'pipe',
  });
  const objects = sources.map((source) => `${path.basename(source, '.c')}.o`);
  const program = path.join(directory, 'harness');
  const harness = path.join(HERE, 'harness.c');
  execFileSync(
    'gcc',
    [
      '-Wall',
      '-O1',
      '-fno-tree-loop-distribute-patterns',
      ...flags.program,
      ...include,
      harness,
      ...objects,
      '-o',
      program,
    ],
    {
      cwd: directory,
      stdio: 'pipe',
    },
  );
  built.set(variant, program);
  return program;
}

/** Runs a script; one answer a command. @throws Error if the harness fails or a sanitizer complains. */
export function runHarness(commands: readonly string[], variant: Variant = 'x86-64'): string[] {
  const program = buildHarness(variant);
  const result = spawnSync(program, {
    input: `${commands.join('\n')}\n`,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    timeout: 60_000,
  });
  if (result.status !== 0)
    throw new Error(`harness: ${result.signal ?? result.status}\n${result.stderr.slice(0, 4000)}`);
  return result.stdout.trimEnd().split('\n');
}

/** Answers of the commands that begin with one of the words, in order. */
export function answersOf(
  commands: readonly string[],
  words: readonly string[],
  variant?: Variant,
): string[] {
  const answers = runHarness(commands, variant);
  return answers.filter((_, index) => words.includes(commands[index]?.split(' ')[0] ?? ''));
}

/** A harness that is asked one command at a time, and remembers the script. */
export class HarnessSession {
  readonly commands: string[] = [];
  readonly answers: string[] = [];
  readonly #process;
  readonly #lines;

  constructor(variant: Variant = 'x86-64') {
    this.#process = spawn(buildHarness(variant), { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  async send(command: string): Promise<string> {
    this.#process.stdin.write(`${command}\n`);
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`harness ended at: ${command}`);
    this.commands.push(command);
    this.answers.push(value);
    return value;
  }

  async read(port: number): Promise<number> {
    return Number(await this.send(`in 0x${port.toString(16)} 1`));
  }

  async write(port: number, value: number): Promise<void> {
    await this.send(`out 0x${port.toString(16)} 1 0x${value.toString(16)}`);
  }

  close(): void {
    this.#process.stdin.end();
  }
}
