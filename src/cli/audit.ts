/**
 * `previrt audit`: sensitive instructions of a kernel that no site covers.
 * Exit status 1 if there are some that no rule of guests/<family>/audit.json justifies.
 */

import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import type { AuditRules } from '../sites/justification.ts';
import { EXIT_FAILURE, inPlace } from './errors.ts';
import { readInput } from './files.ts';

const GUESTS = join(import.meta.dirname, '..', '..', 'guests');

interface AuditOptions {
  readonly json?: boolean;
}

/** The rules of every kernel family. */
function readRules(parse: (text: string) => AuditRules): AuditRules[] {
  return readdirSync(GUESTS)
    .map((family) => join(GUESTS, family, 'audit.json'))
    .filter((path) => existsSync(path))
    .map((path) => inPlace(path, () => parse(Buffer.from(readInput(path)).toString('utf8'))));
}

export function registerAudit(program: Command): void {
  program
    .command('audit')
    .description('list sensitive instructions that no site covers')
    .argument('<image>', 'annotated kernel (vmlinux), burned or not')
    .option('--json', 'print the list as JSON')
    .addHelpText(
      'after',
      `
Exit status: 0 there is none that no rule (guests/*/audit.json) justifies, 1 there is.`,
    )
    .action(async (image: string, options: AuditOptions) => {
      const [
        { openKernel },
        { audit },
        { judge, parseAuditRules },
        { auditJson, formatAudit },
        { readSymbols },
      ] = await Promise.all([
        import('./image.ts'),
        import('../sites/audit.ts'),
        import('../sites/justification.ts'),
        import('../report/auditing.ts'),
        import('../elf/symbols.ts'),
      ]);
      const { elf, sites } = openKernel(image);
      const defined = new Set(readSymbols(elf).map(({ name }) => name));
      const rules = readRules(parseAuditRules).filter(({ symbol }) => defined.has(symbol));
      const { findings, ...totals } = audit(elf, sites);
      const report = {
        sites: sites.length,
        ...totals,
        ...judge(
          findings,
          rules.flatMap(({ justified }) => justified),
        ),
        data: rules.flatMap(({ data }) => data).filter(({ symbol }) => defined.has(symbol)),
      };
      process.stdout.write(
        options.json ? `${JSON.stringify(auditJson(report))}\n` : formatAudit(image, report),
      );
      if (report.open.length > 0) process.exitCode = EXIT_FAILURE;
    });
}
