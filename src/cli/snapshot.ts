/** `previrt snapshot`: writes the machine state of a running guest, which goes on. */

import { resolve } from 'node:path';
import type { Command } from 'commander';
import { request } from './control.ts';
import type { Snapshot } from './requests.ts';

interface SnapshotFlags {
  readonly output: string;
  readonly compress?: boolean;
  readonly json?: true;
}

export function registerSnapshot(program: Command): void {
  program
    .command('snapshot')
    .description('write the machine state of a running guest to a file')
    .argument('<socket>', 'what its `previrt run` was given as --control')
    .requiredOption('-o, --output <file>', 'the file')
    .option('--compress', 'smaller, and slower to write and to read')
    .option('--json', 'print the answer as JSON')
    .addHelpText(
      'after',
      `
The guest stands still while it is written, and goes on. \`previrt resume\` takes
it up again, on any target, and \`previrt state\` shows what is in the file; so
does gdb. The disk is not part of it: copy its image while nothing writes to it.`,
    )
    .action(snapshot);
}

async function snapshot(path: string, { output, compress = false, json }: SnapshotFlags): Promise<void> {
  const done = await request<Snapshot>(path, { snapshot: { file: resolve(output), compress } });
  const text = `${output}: ${(done.bytes / 2 ** 20).toFixed(1)} MiB; the guest stood still for ${Math.round(done.stopped)} ms\n`;
  process.stdout.write(json ? `${JSON.stringify(done)}\n` : text);
}
