/** `previrt run`: boots a kernel on a target, console on standard input and output. */

import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseElf } from '../elf/image.ts';
import { MAX_MEMORY, MEBIBYTE, MIN_MEMORY } from '../machine/virtual-pc.ts';
import { inPlace } from './errors.ts';
import { readInput } from './files.ts';
import { DEFAULT_TARGET, findTarget, TARGETS } from './targets.ts';

const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': MEBIBYTE,
  K: 1024,
  M: MEBIBYTE,
  G: 1024 * MEBIBYTE,
};

/** "128M", "1G"; a bare number is MiB. */
function memorySize(text: string): number {
  const match = /^(\d+)([KMG]?)$/i.exec(text);
  const size = match ? Number(match[1]) * SIZE_UNITS[match[2]!.toUpperCase()]! : Number.NaN;
  if (!(size >= MIN_MEMORY && size <= MAX_MEMORY) || size % 4096)
    throw new InvalidArgumentError(
      `a size from ${MIN_MEMORY / MEBIBYTE}M to ${MAX_MEMORY / MEBIBYTE}M is wanted.`,
    );
  return size;
}

interface RunFlags {
  readonly target: string;
  readonly machine?: string;
  readonly memory: number;
  readonly initrd?: string;
  readonly append: string;
  readonly disk?: string;
  readonly domain: 'dom0' | 'domU';
}

export function registerRun(program: Command): void {
  program
    .command('run')
    .description('boot a kernel')
    .argument('<image>', 'annotated kernel, burned or not')
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
    .option('--memory <size>', 'guest memory, such as 128M or 1G', memorySize, 128 * MEBIBYTE)
    .option('--initrd <file>', 'initial RAM disk')
    .option('--append <text>', 'more arguments for the kernel', '')
    .option('--disk <file>', 'image of a disk, written in place')
    .addOption(
      new Option('--isolation <kind>', 'hosted: what keeps user code from the guest kernel (nothing, today)')
        .choices(['none'])
        .default('none'),
    )
    .addHelpText(
      'after',
      `
The guest's serial console is on standard input and output. In a terminal
Ctrl-A x ends the run and Ctrl-A a sends a Ctrl-A; all else goes to the guest.

Exit status: 0 the guest powered off or reset, 1 it could not be run,
3 its kernel panicked, 4 it crashed beyond its own help.`,
    )
    .action((image: string, flags: RunFlags) => run(image, flags));
}

async function run(image: string, flags: RunFlags): Promise<void> {
  const target = await findTarget(flags.target, flags.machine);
  const bytes = readInput(image);
  const elf = inPlace(image, () => parseElf(bytes));
  const initrd = flags.initrd === undefined ? undefined : readInput(flags.initrd);
  const terminal = process.stdin.isTTY === true;
  const ended = new AbortController();
  const end = () => ended.abort();
  process.once('SIGINT', end).once('SIGTERM', end).once('SIGHUP', end);
  if (terminal) process.stdin.setRawMode(true);
  try {
    process.exitCode = await target.run({
      elf,
      memory: flags.memory,
      initrd,
      append: flags.append,
      disk: flags.disk,
      domain: flags.domain,
      console: { input: 0, output: 1, messages: 2, terminal },
      signal: ended.signal,
    });
  } finally {
    if (terminal) process.stdin.setRawMode(false);
  }
}
