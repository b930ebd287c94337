/** `previrt migrate`: moves a running guest to another target. */

import { type Command, Option } from 'commander';
import type { Round } from '../migration/rounds.ts';
import type { Moved } from '../migration/session.ts';
import { request } from './control.ts';
import { UsageError } from './errors.ts';
import type { Place } from './requests.ts';
import { TARGETS } from './targets.ts';
import { timed } from './timed.ts';

interface MigrateFlags extends Omit<Place, 'target'> {
  readonly to?: string;
  readonly through?: string;
  readonly json?: true;
}

export function registerMigrate(program: Command): void {
  program
    .command('migrate')
    .description('move a running guest to another target')
    .argument('<socket>', 'what its `previrt run` was given as --control')
    .addOption(new Option('--to <name>', 'the target').choices(Object.keys(TARGETS)))
    .option('--machine <name>', 'as for `previrt run`')
    .addOption(
      new Option('--domain <kind>', 'xen: the initial domain, or one that a toolstack starts in it').choices([
        'dom0',
        'domU',
      ]),
    )
    .option('--through <command>', 'instead of --to: what carries it to a `previrt resume -`, as ssh does')
    .option('--json', 'print the answer as JSON')
    .addHelpText(
      'after',
      `
The guest stands still between two of its instructions, and goes on on the other
target with the same memory, processor and devices. Between processes and Xen its
memory is copied in rounds before, while it runs: then it stands still for no
longer than the rest takes. Its console stays where it
is, and its \`previrt run\` goes on with it. If it cannot be taken up there, it
goes on where it was, and nothing is lost; so it does after a Ctrl-C, until all of
it is there.

To another machine, which has the same disk if the guest has one:
  previrt migrate guest.socket --through 'ssh HOST previrt resume - --disk IMAGE'
The console stays here. Further on it is moved by a --control of that \`previrt resume\`.`,
    )
    .action(migrate);
}

const MEBIBYTE = 2 ** 20;
const mebibytes = (bytes: number): string => `${(bytes / MEBIBYTE).toFixed(1)} MiB`;

/** A line for each round of copying. */
function roundsTold(): (progress: unknown) => void {
  let number = 0;
  return (progress) => {
    const { bytes, milliseconds, rate } = progress as Round;
    const writes = rate === undefined ? '' : `; the guest writes ${mebibytes(rate)}/s`;
    process.stderr.write(
      `round ${++number}: ${mebibytes(bytes)} in ${Math.round(milliseconds)} ms${writes}\n`,
    );
  };
}

async function migrate(path: string, { to, through, machine, domain, json }: MigrateFlags): Promise<void> {
  if ((to === undefined) === (through === undefined))
    throw new UsageError('where to?', 'give one of --to and --through');
  if (through !== undefined && (machine !== undefined || domain !== undefined))
    throw new UsageError(
      '--machine and --domain go with --to',
      'give them to the `previrt resume -` behind --through',
    );
  process.stderr.write(`moving the guest ${to ? `to ${to}` : `through ${through}`} ...\n`);
  const place = through === undefined ? { target: to, machine, domain } : { through };
  const moved = await timed(() => request<Moved>(path, { migrate: place }, roundsTold()));
  const text = `runs ${to ? `on ${to}` : 'there'} now; it stood still for ${Math.round(moved.stopped)} ms\n`;
  process.stdout.write(json ? `${JSON.stringify(moved)}\n` : text);
}
