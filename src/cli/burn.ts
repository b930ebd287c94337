/** `previrt burn`: substitutes the sites of a kernel for a target. */

import { type Command, Option } from 'commander';
import { DEFAULT_MEMORY } from '../machine/virtual-pc.ts';
import { formatBytes, plural } from '../report/table.ts';
import { BURN_TARGETS, type BurnTargetName } from '../substitution/select.ts';
import type { DomainName } from '../x86/site-kinds.ts';
import { domainsOption } from './domains.ts';
import { CliError, inPlace } from './errors.ts';
import { readInput, writeOutput } from './files.ts';
import { memoryOption } from './memory-size.ts';

interface BurnCommandOptions {
  readonly target: BurnTargetName;
  readonly domains: readonly DomainName[];
  readonly keep: 'table' | 'copy';
  readonly memory?: number;
  readonly initrd?: string;
  readonly append?: string;
  readonly output: string;
  readonly json?: boolean;
}

/** How to burn for a target: checks image and options, and gives the burned image, for which a wedge may have to be built. */
type Burner = (image: string, bytes: Uint8Array, options: BurnCommandOptions) => () => Promise<Uint8Array>;

const BURNERS: Readonly<Record<BurnTargetName, () => Promise<Burner>>> = {
  hosted: async () => {
    const [{ prepareBurn }, { buildHostedWedge }] = await Promise.all([
      import('../substitution/burn.ts'),
      import('../targets/hosted/build.ts'),
    ]);
    return (image, bytes, { memory, initrd, append, ...choice }) => {
      if (memory !== undefined || initrd !== undefined || append !== undefined)
        throw new CliError(
          '--memory, --initrd and --append are for --target xen',
          `give them to previrt run`,
        );
      const finish = inPlace(image, () => prepareBurn(bytes, choice));
      return async () => finish(readInput(await buildHostedWedge()));
    };
  },
  xen: async () => {
    const [{ prepareXenBurn }, { buildXenWedge }] = await Promise.all([
      import('../targets/xen/target.ts'),
      import('../targets/xen/build.ts'),
    ]);
    return (image, bytes, { domains, keep, memory = DEFAULT_MEMORY, initrd, append = '' }) => {
      const machine = { memory, initrd: initrd === undefined ? undefined : readInput(initrd), append };
      const finish = inPlace(image, () => prepareXenBurn(bytes, { domains, keep, ...machine }));
      return async () => {
        const wedge = readInput(await buildXenWedge());
        return inPlace(image, () => finish(wedge));
      };
    };
  },
};

export function registerBurn(program: Command): void {
  program
    .command('burn')
    .description("substitute a kernel's sites for a target")
    .argument('<image>', 'annotated kernel (vmlinux)')
    .addOption(
      new Option('--target <name>', 'what the kernel shall run on')
        .choices(Object.keys(BURN_TARGETS))
        .makeOptionMandatory(),
    )
    .addOption(domainsOption())
    .addOption(
      new Option('--keep <how>', 'keep the originals in the patch table, or a copy of the image')
        .choices(['table', 'copy'])
        .default('table'),
    )
    .addOption(memoryOption())
    .option('--initrd <file>', 'xen: initial RAM disk, which becomes part of the image')
    .option('--append <text>', 'xen: more arguments for the kernel')
    .requiredOption('-o, --output <file>', 'where to write the burned kernel')
    .option('--json', 'say what was done as JSON')
    .addHelpText(
      'after',
      `
A kernel burned for hosted runs with previrt run. One burned for xen is a
domain as it is: its memory, its initrd and its arguments are part of it, and
previrt xl-config prints what a toolstack needs. previrt unburn takes either
back, byte for byte.`,
    )
    .action(async (image: string, options: BurnCommandOptions) => {
      const { burnReport } = await import('../substitution/burn-info.ts');
      const burner = await BURNERS[options.target]();
      const burned = await burner(image, readInput(image), options)();
      const report = burnReport(burned);
      writeOutput(options.output, burned);
      process.stdout.write(
        options.json
          ? `${JSON.stringify({ output: options.output, size: burned.length, ...report })}\n`
          : `${options.output}: burned ${plural(report.burned, 'site')} for ${report.target} (${report.domains.join(', ')}), ` +
              `left ${report.left}; ${formatBytes(burned.length)}\n`,
      );
    });
}
