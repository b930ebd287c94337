/** `previrt burn`: substitutes the sites of a kernel for a target. */

import { type Command, InvalidArgumentError, Option } from 'commander';
import { formatBytes, plural } from '../report/table.ts';
import { BURN_TARGETS, type BurnTargetName } from '../substitution/select.ts';
import { DOMAINS, type DomainName } from '../x86/site-kinds.ts';
import { inPlace } from './errors.ts';
import { readInput, writeOutput } from './files.ts';

interface BurnCommandOptions {
  readonly target: BurnTargetName;
  readonly domains: readonly DomainName[];
  readonly keep: 'table' | 'copy';
  readonly output: string;
  readonly json?: boolean;
}

/** Each target's wedge, built if need be. */
const WEDGES: Readonly<Record<BurnTargetName, () => Promise<Uint8Array>>> = {
  hosted: async () => {
    const { buildHostedWedge } = await import('../targets/hosted/build.ts');
    return readInput(await buildHostedWedge());
  },
  xen: async () => {
    const { buildXenWedge } = await import('../targets/xen/build.ts');
    return readInput(await buildXenWedge());
  },
};

const ALL_DOMAINS = Object.keys(DOMAINS) as DomainName[];

function parseDomains(text: string): DomainName[] {
  const names = text.split(',').map((name) => name.trim());
  const unknown = names.find((name) => !Object.hasOwn(DOMAINS, name));
  if (unknown !== undefined)
    throw new InvalidArgumentError(`There is no domain '${unknown}'; domains: ${ALL_DOMAINS.join(', ')}.`);
  if (!names.includes('cpu')) throw new InvalidArgumentError('Domain cpu cannot be left out.');
  return ALL_DOMAINS.filter((name) => names.includes(name));
}

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
    .option('--domains <list>', 'domains to substitute; the others trap', parseDomains, ALL_DOMAINS)
    .addOption(
      new Option('--keep <how>', 'keep the originals in the patch table, or a copy of the image')
        .choices(['table', 'copy'])
        .default('table'),
    )
    .requiredOption('-o, --output <file>', 'where to write the burned kernel')
    .option('--json', 'say what was done as JSON')
    .action(async (image: string, options: BurnCommandOptions) => {
      const [{ prepareBurn }, { burnReport }] = await Promise.all([
        import('../substitution/burn.ts'),
        import('../substitution/burn-info.ts'),
      ]);
      const bytes = readInput(image);
      const { target, domains, keep } = options;
      const finish = inPlace(image, () => prepareBurn(bytes, { target, domains, keep }));
      const burned = finish(await WEDGES[target]());
      const report = burnReport(burned);
      writeOutput(options.output, burned);
      process.stdout.write(
        options.json
          ? `${JSON.stringify({ output: options.output, size: burned.length, ...report })}\n`
          : `${options.output}: burned ${plural(report.burned, 'site')} for ${target} (${domains.join(', ')}), ` +
              `left ${report.left}; ${formatBytes(burned.length)}\n`,
      );
    });
}
