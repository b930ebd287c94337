/** `previrt burn` of a machine state: a file that Xen's toolstack starts a domain from, in which the guest goes on. */

import { isStateFile, readStateFile } from '../machine/state-reader.ts';
import { formatBytes } from '../report/table.ts';
import type { BurnCommandOptions } from './burn.ts';
import { inPlace, UsageError } from './errors.ts';
import { besides, isFile, readInput, withInput, writeOutput } from './files.ts';

/**
 * Whether a file is a machine state, by how it begins. What is no file is left
 * alone: a pipe can be opened only once. @throws CliError if it cannot be read
 */
export const isMachineState = (path: string): boolean => isFile(path) && withInput(path, isStateFile);

/** @throws CliError if it is damaged, or cannot be a domain */
export async function burnState(path: string, options: BurnCommandOptions): Promise<void> {
  const { target, domains, fromBinary, memory, initrd, append, output, json } = options;
  if (target !== 'xen')
    throw new UsageError(`${path}: a machine state`, 'previrt resume takes it up as it is');
  if (fromBinary || [memory, initrd, append].some((option) => option !== undefined))
    throw new UsageError(
      `${path}: a machine state; --from-binary, --memory, --initrd and --append are for kernels`,
      'leave them out',
    );
  const [{ resumedDomain }, { buildXenWedge }] = await Promise.all([
    import('../targets/xen/target.ts'),
    import('../targets/xen/build.ts'),
  ]);
  const wedge = readInput(await buildXenWedge());
  const burned = withInput(path, (file) =>
    inPlace(path, () => resumedDomain(wedge, readStateFile(file), domains)),
  );
  // It holds all of the guest's memory.
  writeOutput(output, burned, 0o600);
  besides(output).write(
    json
      ? `${JSON.stringify({ output, size: burned.length, target, domains })}\n`
      : `${output}: a domain in which the guest of ${path} goes on; ${formatBytes(burned.length)}\n`,
  );
}
