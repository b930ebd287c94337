/** `previrt unburn`: gives back the kernel that was burned, byte for byte. */

import type { Command } from 'commander';
import { formatBytes } from '../report/table.ts';
import { inPlace } from './errors.ts';
import { besides, readInput, writeOutput } from './files.ts';

interface UnburnOptions {
  readonly output: string;
  readonly json?: boolean;
}

export function registerUnburn(program: Command): void {
  program
    .command('unburn')
    .description('give back the kernel as it was before burning, byte for byte')
    .argument('<image>', 'burned kernel')
    .requiredOption('-o, --output <file>', 'where to write the kernel')
    .option('--json', 'say what was done as JSON')
    .action(async (image: string, options: UnburnOptions) => {
      const { unburn } = await import('../substitution/unburn.ts');
      const bytes = readInput(image);
      const original = inPlace(image, () => unburn(bytes));
      writeOutput(options.output, original);
      besides(options.output).write(
        options.json
          ? `${JSON.stringify({ output: options.output, size: original.length })}\n`
          : `${options.output}: as before burning, checksum verified; ${formatBytes(original.length)}\n`,
      );
    });
}
