/** `previrt snapshot`: writes the machine state of a guest to a file: of one that runs, or of one in the core of a domain. */

import { dirname, resolve } from 'node:path';
import type { Command } from 'commander';
import { sayBefore } from '../targets/write-out.ts';
import { request } from './control.ts';
import { inPlace, systemError, UsageError } from './errors.ts';
import { isFile, withInput } from './files.ts';
import type { Snapshot } from './requests.ts';
import { type Wanted, writeState } from './state-file.ts';
import { timed } from './timed.ts';

interface SnapshotFlags {
  readonly xl?: true;
  readonly end?: true;
  readonly output: string;
  readonly compress?: boolean;
  readonly json?: true;
}

export function registerSnapshot(program: Command): void {
  program
    .command('snapshot')
    .description("write a guest's machine state to a file")
    .argument(
      '<guest>',
      "what its `previrt run` was given as --control; or a file of `xl dump-core`; with --xl a domain's name",
    )
    .option('--xl', 'the guest is a domain of this Xen host')
    .option('--end', 'when the file is written the guest ends there, to go on elsewhere')
    .requiredOption('-o, --output <file>', 'the file')
    .option('--compress', 'smaller, and slower to write and to read')
    .option('--json', 'print the answer as JSON')
    .addHelpText(
      'after',
      `
The guest stands still while it is written, and goes on, unless it is to --end.
\`previrt resume\` takes it up again, on any target, and \`previrt state\` shows what
is in the file; so does gdb. The disk is not part of it: copy its image while
nothing writes to it.

On a Xen host --xl does what can be done by hand as well, with the file elsewhere:
  xl sysrq DOMAIN S          the guest stands still, and says so on its console
  xl dump-core DOMAIN core
  xl sysrq DOMAIN G          it goes on; or Q, and it ends
  previrt snapshot core -o state`,
    )
    .action(snapshot);
}

/** Of a guest in a core nobody knows how long it stood still. */
type Written = Pick<Snapshot, 'bytes'> & Partial<Snapshot>;

const ofRun = (socket: string, wanted: Wanted): Promise<Written> =>
  request<Snapshot>(socket, { snapshot: wanted });

async function ofCore(path: string, wanted: Wanted): Promise<Written> {
  const { coreState } = await import('../targets/xen/core.ts');
  sayBefore(`reading ${path}`);
  return withInput(path, (core) => ({
    bytes: writeState(
      inPlace(path, () => coreState(core)),
      wanted,
    ),
  }));
}

async function ofDomain(domain: string, wanted: Wanted): Promise<Written> {
  const { standStillOnHost } = await import('../migration/xen-host.ts');
  try {
    const { end, file } = wanted;
    return await standStillOnHost({ domain, end, folder: dirname(file) }, (machine) => ({
      bytes: writeState(machine, wanted),
    }));
  } catch (error) {
    throw systemError(error, 'write', wanted.file);
  }
}

async function snapshot(guest: string, flags: SnapshotFlags): Promise<void> {
  const { output, compress = false, xl, end = false, json } = flags;
  const wanted = { file: resolve(output), compress, end };
  const core = !xl && isFile(guest);
  if (core && end) throw new UsageError('the guest in a core has no end', 'leave --end out');
  const write = xl ? ofDomain : core ? ofCore : ofRun;
  const done = await timed(() => write(guest, wanted));
  const still =
    done.stopped === undefined ? '' : `; the guest stood still for ${Math.round(done.stopped)} ms`;
  const text = `${output}: ${(done.bytes / 2 ** 20).toFixed(1)} MiB${still}\n`;
  process.stdout.write(json ? `${JSON.stringify(done)}\n` : text);
}
