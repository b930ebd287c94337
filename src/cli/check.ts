/** `previrt check`: what each target needs of this host, what is missing, and what to do about it. */

import type { Command } from 'commander';
import type { Check } from '../targets/target.ts';
import { EXIT_FAILURE } from './errors.ts';
import { DEFAULT_TARGET, TARGETS } from './targets.ts';

interface TargetReport {
  readonly target: string;
  readonly machine: string;
  readonly default: boolean;
  readonly usable: boolean;
  readonly checks: readonly Check[];
}

async function checkTargets(): Promise<TargetReport[]> {
  const found = Object.entries(TARGETS).flatMap(([target, machines]) =>
    Object.entries(machines).map(async ([machine, find]): Promise<TargetReport> => {
      const checks = await (await find()).check();
      const usable = checks.every(({ ok }) => ok);
      return { target, machine, default: target === DEFAULT_TARGET, usable, checks };
    }),
  );
  return await Promise.all(found);
}

const MARKS = { true: 'ok', false: 'missing' } as const;

/** One target for people: a heading, then a line for each thing it needs. */
function formatReport({ target, machine, default: isDefault, usable, checks }: TargetReport): string {
  const lines = checks.map(({ name, ok, found, advice }) => {
    const mark = MARKS[`${ok}`].padEnd(MARKS.false.length);
    return `  ${mark}  ${name}: ${found}${ok ? '' : `; ${advice}`}\n`;
  });
  const title = `${target} (${machine}${isDefault ? ', default' : ''}): ${usable ? 'usable' : 'not usable here'}`;
  return `${title}\n${lines.join('')}`;
}

export function registerCheck(program: Command): void {
  program
    .command('check')
    .description('say what each target needs of this host, and what is missing')
    .option('--json', 'as JSON')
    .addHelpText(
      'after',
      `\nExit status: 0 target ${DEFAULT_TARGET}, the default, can be used here, 1 it cannot.`,
    )
    .action(async ({ json }: { readonly json?: boolean }) => {
      const reports = await checkTargets();
      process.stdout.write(
        json ? `${JSON.stringify({ targets: reports })}\n` : reports.map(formatReport).join('\n'),
      );
      if (!reports.some((report) => report.default && report.usable)) process.exitCode = EXIT_FAILURE;
    });
}
