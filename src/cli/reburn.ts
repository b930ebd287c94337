/** `previrt reburn`: burns a running guest again, for other domains. */

import type { Command } from 'commander';
import type { Reburned } from '../targets/command.ts';
import { request } from './control.ts';
import { domainsOption } from './domains.ts';

interface ReburnFlags {
  readonly domains: readonly string[];
  readonly json?: true;
}

export function registerReburn(program: Command): void {
  program
    .command('reburn')
    .description('burn a running guest again, for other domains')
    .argument('<socket>', 'what its `previrt run` was given as --control')
    .addOption(domainsOption())
    .option('--json', 'print the answer as JSON')
    .addHelpText(
      'after',
      `
The guest stands still for some milliseconds, between two of its instructions.
All sites get their original bytes back, its modules' too; then those of the
domains asked for are burned. The others trap, and are slower.`,
    )
    .action(reburn);
}

async function reburn(path: string, { domains, json }: ReburnFlags): Promise<void> {
  const answer = await request<Reburned>(path, { reburn: domains });
  const { sites, changed, guests, microseconds } = answer;
  const text = `${sites} sites, ${changed} of them changed; ${guests} hold the guest's own changes; it stood still for ${microseconds / 1000} ms\n`;
  process.stdout.write(json ? `${JSON.stringify(answer)}\n` : text);
}
