/** `previrt run`: boots a kernel on a target, console on standard input and output. */

import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { type Command, Option } from 'commander';
import { type ElfImage, parseElf } from '../elf/image.ts';
import { PROCESSORS, type ProcessorName } from '../machine/state.ts';
import { DEFAULT_MEMORY } from '../machine/virtual-pc.ts';
import { formatCounts } from '../report/counts.ts';
import { COUNT } from '../targets/boot-layout.ts';
import { CountsCollector } from '../targets/counts.ts';
import { takesUp } from '../targets/target.ts';
import { CliError, inPlace, UsageError } from './errors.ts';
import { checkOutput, readInput, writeOutput } from './files.ts';
import { hold } from './hold.ts';
import { readKernel } from './kernel-file.ts';
import { memoryOption } from './memory-size.ts';
import { encodeProfile } from './profile.ts';
import { DEFAULT_TARGET, findTarget, TARGETS } from './targets.ts';

interface RunFlags {
  readonly target: string;
  readonly machine?: string;
  readonly memory?: number;
  readonly cpu: ProcessorName;
  readonly initrd?: string;
  readonly append: string;
  readonly disk?: string;
  readonly domain: 'dom0' | 'domU';
  readonly control?: string;
  readonly stats?: boolean;
  readonly json?: boolean;
  readonly profile?: string;
}

export function registerRun(program: Command): void {
  program
    .command('run')
    .description('boot a kernel')
    .argument('<image>', 'kernel: burned or not, a bzImage too')
    .addOption(
      new Option('--target <name>', 'what to run it on')
        .choices(Object.keys(TARGETS))
        .default(DEFAULT_TARGET),
    )
    .option(
      '--machine <name>',
      'bare: qemu or v86 (default: qemu); xen: its version, 4.14, 4.17 or 4.20 (default: 4.17)',
    )
    .addOption(
      new Option('--domain <kind>', 'xen: the initial domain, or one that a toolstack starts in it')
        .choices(['dom0', 'domU'])
        .default('dom0'),
    )
    .addOption(memoryOption())
    .addOption(
      new Option(
        '--cpu <name>',
        'hosted, xen: what the guest may know of its processor; with pentium3 it can go anywhere',
      )
        .choices(Object.keys(PROCESSORS))
        .default('host'),
    )
    .option('--initrd <file>', 'initial RAM disk')
    .option('--append <text>', 'more arguments for the kernel', '')
    .option('--disk <file>', 'image of a disk, written in place, by one guest at a time')
    .option('--control <path>', 'make a socket there, for previrt reburn, migrate and snapshot')
    .addOption(
      new Option('--isolation <kind>', 'hosted: what keeps user code from the guest kernel (nothing, today)')
        .choices(['none'])
        .default('none'),
    )
    .option('--stats', 'hosted, xen: count sites and traps by domain, and print them at the end')
    .option('--json', 'print what --stats counts as JSON')
    .option('--profile <file>', 'hosted, xen: write down which instructions trapped, for previrt profile')
    .addHelpText(
      'after',
      `
The guest's serial console is on standard input and output. In a terminal
Ctrl-A x ends the run and Ctrl-A a sends a Ctrl-A; all else goes to the guest.

With --stats every site of a kernel that is not burned yet is burned as a call
of the generic emulator, which counts it. In a burned kernel those sites are
counted that reach the wedge's C: all of mmio, pagetable and portio.

Exit status: 0 the guest powered off or reset, 1 it could not be run,
3 its kernel panicked, 4 it crashed beyond its own help.`,
    )
    .action((image: string, flags: RunFlags) => run(image, flags));
}

/** Bytes of guest memory if none is asked for: an image burned for Xen has its machine in it. */
async function usualMemory(elf: ElfImage): Promise<number> {
  const { machineIn } = await import('../targets/xen/image.ts');
  return machineIn(elf)?.memory ?? DEFAULT_MEMORY;
}

/** @throws CliError if the wedge has not told */
function report(told: CountsCollector, { stats, json, profile }: RunFlags): void {
  const counts = told.counts();
  if (!counts) throw new CliError('the run ended before it could tell what it counted');
  if (stats)
    process.stderr.write(json ? `${JSON.stringify({ domains: counts.domains })}\n` : formatCounts(counts));
  if (profile !== undefined) writeOutput(profile, encodeProfile(counts.places));
}

async function run(image: string, flags: RunFlags): Promise<void> {
  const target = await findTarget(flags.target, flags.machine);
  if (flags.control !== undefined && !takesUp(target))
    throw new UsageError('nothing can be asked of a guest on this machine', 'leave out --control');
  const { file, image: bytes } = readKernel(image);
  const elf = inPlace(image, () => parseElf(bytes));
  const initrd = flags.initrd === undefined ? undefined : readInput(flags.initrd);
  const counting = flags.stats === true || flags.profile !== undefined;
  if (counting && target.name === 'bare')
    throw new UsageError('there is nothing to count on bare', 'take --target hosted or xen');
  if (flags.json && !flags.stats) throw new UsageError('--json is for --stats');
  if (flags.profile !== undefined) checkOutput(flags.profile);
  const told = counting ? new CountsCollector() : undefined;
  const memory = flags.memory ?? (await usualMemory(elf));
  const counts = (flags.stats ? COUNT.DOMAINS : 0) | (flags.profile === undefined ? 0 : COUNT.PLACES);
  const { append, disk, domain } = flags;
  const started = { elf, memory, processor: flags.cpu, initrd, append, disk, domain, counts, told };
  process.exitCode = await hold(flags.control, { disk, elf, ramSize: memory }, (surroundings) =>
    target.run({ ...started, ...surroundings }),
  );
  if (told) report(told, flags);
  const digest = createHash('sha256').update(file).digest('hex');
  process.stderr.write(`previrt: ${basename(image)}, SHA-256 ${digest}, started on ${target.name}\n`);
}
