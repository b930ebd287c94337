/** `previrt resume`: takes up a guest from a file with its machine state. */

import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Command, Option } from 'commander';
import { parseElf } from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';
import type { Machine } from '../machine/state.ts';
import { readStateFile, verifyRam } from '../machine/state-reader.ts';
import { LENGTH_SIZE, RUNS_THERE } from '../migration/elsewhere.ts';
import type { RunningGuest } from '../targets/target.ts';
import { CliError, inPlace } from './errors.ts';
import { openInput } from './files.ts';
import { hold } from './hold.ts';
import { readKernel } from './kernel-file.ts';
import { DEFAULT_TARGET, findTarget, TARGETS } from './targets.ts';

interface ResumeFlags {
  readonly target: string;
  readonly machine?: string;
  readonly domain?: 'dom0' | 'domU';
  readonly disk?: string;
  readonly control?: string;
  readonly kernel?: string;
}

export function registerResume(program: Command): void {
  program
    .command('resume')
    .description('take up a guest from a file with its machine state')
    .argument('<file>', 'as `previrt snapshot` writes it; - for what `previrt migrate --through` sends')
    .addOption(
      new Option('--target <name>', 'where it goes on').choices(Object.keys(TARGETS)).default(DEFAULT_TARGET),
    )
    .option('--machine <name>', 'as for `previrt run`')
    .addOption(
      new Option('--domain <kind>', 'xen: the initial domain, or one that a toolstack starts in it').choices([
        'dom0',
        'domU',
      ]),
    )
    .option('--disk <file>', "image of its disk, as it was when the guest's state was")
    .option('--kernel <image>', 'what it was booted from, for names of functions in messages')
    .option('--control <path>', 'make a socket there, for previrt reburn, migrate and snapshot')
    .addHelpText(
      'after',
      `
The guest goes on where it was, with its console on standard input and output,
as after \`previrt run\`. Its clock goes forward to what it is now. The file is
only read, so a guest can be taken up from it again.`,
    )
    .action(resume);
}

/** @throws InputError if anything in it is damaged */
function readWhole(file: number): Machine {
  const machine = readStateFile(file);
  // The wedge takes RAM that lies there as it is by itself.
  if (machine.ram.file) verifyRam(machine);
  return machine;
}

/** Bytes that are taken from the wire at once. */
const PORTION = 2 ** 20;
/** No state is longer: its file holds 4 GiB. */
const LONGEST = 2 ** 32;

/** Exactly so many bytes of standard input, and none more: the console follows. @throws InputError if it ends before */
function take(into: Uint8Array): void {
  for (let done = 0; done < into.length; ) {
    const count = readSync(0, into, done, into.length - done, null);
    if (count === 0) throw new InputError('the connection was closed before all of the state had come');
    done += count;
  }
}

/** A state that comes through standard input, in a file without a name. Its descriptor. */
async function receive(): Promise<number> {
  const length = Buffer.alloc(LENGTH_SIZE);
  take(length);
  const size = Number(length.readBigUInt64LE());
  if (size > LONGEST) throw new InputError(`a state of ${size} bytes: this is none`);
  const folder = await mkdtemp(join(tmpdir(), 'previrt-'));
  try {
    const file = openSync(join(folder, 'state'), 'wx+', 0o600);
    const portion = new Uint8Array(PORTION);
    for (let rest = size; rest > 0; rest -= PORTION) {
      const part = portion.subarray(0, Math.min(rest, PORTION));
      take(part);
      for (let done = 0; done < part.length; ) done += writeSync(file, part, done);
    }
    return file;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function resume(path: string, flags: ResumeFlags): Promise<void> {
  const target = await findTarget(flags.target, flags.machine);
  const { resume: start } = target;
  if (!start) throw new CliError(`a guest cannot be taken up on ${target.name}`);
  const elf =
    flags.kernel === undefined
      ? undefined
      : inPlace(flags.kernel, () => parseElf(readKernel(flags.kernel!).image));
  const wired = path === '-';
  const file = wired ? await receive() : openInput(path);
  try {
    const machine = inPlace(path, () => readWhole(file));
    const { disk, domain } = flags;
    if (machine.state.devices.virtio_blk.status !== 0 && disk === undefined)
      throw new InputError('the guest uses a disk', 'give its image with --disk');
    process.exitCode = await hold(flags.control, { disk, elf }, (surroundings) =>
      start({
        machine,
        elf,
        disk,
        domain,
        ...surroundings,
        ...(wired && {
          attach(guest: RunningGuest) {
            // Without who sent it, it must not run: the source may go on then.
            process.stdin.once('end', () => process.kill(process.pid, 'SIGTERM'));
            process.stderr.write(`${RUNS_THERE}\n`);
            surroundings.attach?.(guest);
          },
        }),
      }),
    );
  } finally {
    closeSync(file);
  }
}
