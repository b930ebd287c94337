/** `previrt resume`: takes up a guest from a file with its machine state. */

import { closeSync } from 'node:fs';
import { type Command, Option } from 'commander';
import { type ElfImage, parseElf } from '../elf/image.ts';
import { MOST_OWED } from '../machine/devices.ts';
import { checkFeatures } from '../machine/features.ts';
import type { Machine, MachineState } from '../machine/state.ts';
import { readStateFile, verifyRam } from '../machine/state-reader.ts';
import { bringTo, bringWhole } from '../migration/bring.ts';
import { takesUp } from '../targets/target.ts';
import { wallTime } from '../targets/wall-time.ts';
import { arrive, checkDisk } from './arrive.ts';
import { inPlace, systemError, UsageError } from './errors.ts';
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
only read, so a guest can be taken up from it again. If it is old the clock runs
fast for a while, until it is right; it is set forward by a day at most.`,
    )
    .action(resume);
}

/** @throws CliError if it cannot be read, or anything in it is damaged */
function readWhole(path: string, file: number): Machine {
  try {
    return inPlace(path, () => {
      const machine = readStateFile(file);
      // The wedge takes RAM that lies there as it is by itself.
      if (machine.ram.file) verifyRam(machine);
      return machine;
    });
  } catch (error) {
    throw systemError(error, 'read', path);
  }
}

/** @throws CliError if it cannot be read, or is no ELF image */
function openImage(path: string): ElfImage {
  const { image } = readKernel(path);
  return inPlace(path, () => parseElf(image));
}

/** Said of a state that is older than what the guest's clock makes up for. */
function ageNote({ wall_time }: MachineState): string {
  const seconds = Number((wallTime() - wall_time) / 1_000_000_000n);
  if (seconds <= MOST_OWED) return '';
  const days = (count: number): string => `${(count / 86_400).toFixed(1)} days`;
  return `previrt: the state is ${days(seconds)} old: the guest's clock will be ${days(seconds - MOST_OWED)} behind, until it is set (hwclock --hctosys)\n`;
}

async function resume(path: string, flags: ResumeFlags): Promise<void> {
  const target = await findTarget(flags.target, flags.machine);
  const { resume: start, receive } = target;
  if (!takesUp(target)) throw new UsageError(`a guest cannot be taken up on ${target.name}`);
  const { disk, domain, control, kernel } = flags;
  const elf = kernel === undefined ? undefined : openImage(kernel);
  if (path === '-') {
    process.exitCode = await arrive(target, { disk, elf, domain }, control);
    return;
  }
  const file = openInput(path);
  try {
    const machine = readWhole(path, file);
    checkDisk(machine, disk);
    if (target.features) checkFeatures(machine.state.features, target.features);
    process.stderr.write(ageNote(machine.state));
    const lasting = { disk, elf, ramSize: machine.ram.size };
    // What takes RAM from the file itself holds none of it here.
    const whole = start && (!receive || machine.ram.file);
    process.exitCode = await hold(control, lasting, (surroundings) =>
      whole
        ? start({ machine, elf, disk, domain, ...surroundings })
        : bringTo(receive!, { ...lasting, domain, ...surroundings }, (there) => bringWhole(machine, there)),
    );
  } finally {
    closeSync(file);
  }
}
