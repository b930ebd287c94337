/** `previrt snapshot`: writes the machine state of a guest to a file: of one that runs, or of one in the core of a domain. */

import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { request } from './control.ts';
import { inPlace } from './errors.ts';
import { withInput } from './files.ts';
import type { Snapshot } from './requests.ts';

interface SnapshotFlags {
  readonly output: string;
  readonly compress?: boolean;
  readonly json?: true;
}

export function registerSnapshot(program: Command): void {
  program
    .command('snapshot')
    .description("write a guest's machine state to a file")
    .argument('<guest>', 'what its `previrt run` was given as --control; or a file of `xl dump-core`')
    .requiredOption('-o, --output <file>', 'the file')
    .option('--compress', 'smaller, and slower to write and to read')
    .option('--json', 'print the answer as JSON')
    .addHelpText(
      'after',
      `
The guest stands still while it is written, and goes on. \`previrt resume\` takes
it up again, on any target, and \`previrt state\` shows what is in the file; so
does gdb. The disk is not part of it: copy its image while nothing writes to it.

From a Xen host of your own:
  xl sysrq DOMAIN S          it stands still, and says so on its console
  xl dump-core DOMAIN core
  xl sysrq DOMAIN Q          it ends; or G, and it goes on
  previrt snapshot core -o state`,
    )
    .action(snapshot);
}

/** The path is a socket's, or a file's. */
const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;

async function snapshot(path: string, { output, compress = false, json }: SnapshotFlags): Promise<void> {
  if (isFile(path)) {
    const [{ coreState }, { writeState }] = await Promise.all([
      import('../targets/xen/core.ts'),
      import('./state-file.ts'),
    ]);
    const bytes = withInput(path, (core) =>
      writeState(
        inPlace(path, () => coreState(core)),
        { file: output, compress },
      ),
    );
    process.stdout.write(json ? `${JSON.stringify({ bytes })}\n` : `${output}: ${mebibytes(bytes)}\n`);
    return;
  }
  const done = await request<Snapshot>(path, { snapshot: { file: resolve(output), compress } });
  const text = `${output}: ${mebibytes(done.bytes)}; the guest stood still for ${Math.round(done.stopped)} ms\n`;
  process.stdout.write(json ? `${JSON.stringify(done)}\n` : text);
}

const mebibytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
