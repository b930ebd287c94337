/** `previrt reburn`: burns a running guest again, for other domains. */

import { connect } from 'node:net';
import type { Command } from 'commander';
import { InputError } from '../elf/input-error.ts';
import type { Reburned } from '../targets/command.ts';
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

/** Sends a line and takes one. @throws InputError if nobody listens or answers */
function request(path: string, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    let text = '';
    socket.setEncoding('utf8');
    socket.on('connect', () => socket.write(`${line}\n`));
    socket.on('error', ({ message }) =>
      reject(new InputError(`${path}: ${message}`, 'give the path that a run was given as --control')),
    );
    socket.on('close', () => reject(new InputError(`${path}: the run has ended`)));
    socket.on('data', (chunk: string) => {
      text += chunk;
      if (!text.includes('\n')) return;
      resolve(text);
      socket.end();
    });
  });
}

async function reburn(path: string, { domains, json }: ReburnFlags): Promise<void> {
  const answer = JSON.parse(await request(path, JSON.stringify({ reburn: domains }))) as Reburned & {
    error?: string;
  };
  if (answer.error !== undefined) throw new InputError(`${path}: ${answer.error}`);
  const { sites, changed, guests, microseconds } = answer;
  const text = `${sites} sites, ${changed} of them changed; ${guests} hold the guest's own changes; it stood still for ${microseconds / 1000} ms\n`;
  process.stdout.write(json ? `${JSON.stringify(answer)}\n` : text);
}
