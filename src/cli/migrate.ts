/** `previrt migrate`: moves a running guest to another target. */

import { type Command, Option } from 'commander';
import type { Moved } from '../migration/session.ts';
import { request } from './control.ts';
import type { Place } from './requests.ts';
import { TARGETS } from './targets.ts';

interface MigrateFlags extends Omit<Place, 'target'> {
  readonly to: string;
  readonly json?: true;
}

export function registerMigrate(program: Command): void {
  program
    .command('migrate')
    .description('move a running guest to another target')
    .argument('<socket>', 'what its `previrt run` was given as --control')
    .addOption(new Option('--to <name>', 'the target').choices(Object.keys(TARGETS)).makeOptionMandatory())
    .option('--machine <name>', 'as for `previrt run`')
    .addOption(
      new Option('--domain <kind>', 'xen: the initial domain, or one that a toolstack starts in it').choices([
        'dom0',
        'domU',
      ]),
    )
    .option('--json', 'print the answer as JSON')
    .addHelpText(
      'after',
      `
The guest stands still between two of its instructions, and goes on on the other
target with the same memory, processor and devices. Its console stays where it
is, and its \`previrt run\` goes on with it. If it cannot be taken up there, it
goes on where it was, and nothing is lost.`,
    )
    .action(migrate);
}

async function migrate(path: string, { to, machine, domain, json }: MigrateFlags): Promise<void> {
  process.stderr.write(`moving the guest to ${to} ...\n`);
  const moved = await request<Moved>(path, { migrate: { target: to, machine, domain } });
  const text = `runs on ${to} now; it stood still for ${Math.round(moved.stopped)} ms\n`;
  process.stdout.write(json ? `${JSON.stringify(moved)}\n` : text);
}
