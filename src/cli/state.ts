/** `previrt state`: what a machine state file holds, or in what two differ. */

import { closeSync } from 'node:fs';
import type { Command } from 'commander';
import type { StateFile } from '../machine/state-reader.ts';
import { inPlace, systemError } from './errors.ts';
import { openInput } from './files.ts';

interface StateOptions {
  readonly diff?: string;
  readonly json?: true;
}

export function registerState(program: Command): void {
  program
    .command('state')
    .description('say what a machine state file holds, or in what two differ')
    .argument('<file>', 'machine state')
    .option('--diff <other>', 'name the fields and count the sites and pages that differ from this one')
    .option('--json', 'print everything but RAM as JSON')
    .addHelpText(
      'after',
      `
All checksums are compared, those of RAM too; a damaged file is refused, with
the name of the note or block.

The file is an ELF core. To look at the guest's memory by the kernel's symbols:
  gdb vmlinux FILE
A compressed one shows its registers only.`,
    )
    .action(state);
}

/** Runs `body` on a file that is wholly in order. @throws CliError if it cannot be read or is damaged. */
async function withState<T>(path: string, body: (file: StateFile) => T): Promise<T> {
  const { readStateFile, verifyRam } = await import('../machine/state-reader.ts');
  const file = openInput(path);
  try {
    const machine = inPlace(path, () => {
      const read = readStateFile(file);
      verifyRam(read);
      return read;
    });
    return await body(machine);
  } catch (error) {
    throw systemError(error, 'read', path);
  } finally {
    closeSync(file);
  }
}

async function state(path: string, { diff, json }: StateOptions): Promise<void> {
  const text = await withState(path, async (machine) => {
    if (diff === undefined) {
      const { formatState, stateSummary } = await import('../report/machine-state.ts');
      return json ? `${JSON.stringify(stateSummary(machine))}\n` : formatState(path, machine);
    }
    const { formatDifference, stateDifference } = await import('../report/state-diff.ts');
    return withState(diff, (other) => {
      const report = stateDifference(machine, other);
      return json ? `${JSON.stringify(report)}\n` : formatDifference(path, diff, report);
    });
  });
  process.stdout.write(text);
}
