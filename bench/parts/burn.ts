/** Burning and unburning the kernel, in one process and as commands. */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { REPOSITORY } from '../../guests/cache.ts';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { runProgram, step } from '../../guests/steps.ts';
import { burn as burnImage } from '../../src/substitution/burn.ts';
import { unburn } from '../../src/substitution/unburn.ts';
import { DOMAINS, type DomainName } from '../../src/x86/site-kinds.ts';
import type { Part, Result } from '../part.ts';
import { median, seconds } from '../timing.ts';

const PREVIRT = join(REPOSITORY, 'bin/previrt');
const RUNS = 9;
/** Runs before those that count. */
const WARM_UP = 2;

async function run(folder: string): Promise<Result> {
  const { vmlinux } = await buildKernel('annotated');
  const kernel = readFileSync(vmlinux);
  const options = {
    target: 'hosted',
    domains: Object.keys(DOMAINS) as DomainName[],
    keep: 'table',
    wedge: new Uint8Array(0),
  } as const;
  const bytes = burnImage(kernel, options);
  const [burned, back] = [join(folder, 'burned'), join(folder, 'unburned')];
  writeFileSync(burned, bytes);
  const previrt =
    (...args: string[]) =>
    (): Promise<string> =>
      runProgram(PREVIRT, args);
  const bodies: Readonly<Record<string, () => unknown>> = {
    burn: () => burnImage(kernel, options),
    unburn: () => unburn(bytes),
    'previrt burn': previrt('burn', vmlinux, '--target', 'hosted', '--output', burned),
    'previrt unburn': previrt('unburn', burned, '--output', back),
    'previrt inspect': previrt('inspect', vmlinux),
    'previrt --help': previrt('--help'),
  };
  return step('Burning', async (report) => {
    const rows = [];
    for (const [what, body] of Object.entries(bodies)) {
      report(what);
      const times = [];
      for (let n = 0; n < WARM_UP + RUNS; n++) times.push(await seconds(body));
      rows.push({ what, value: median(times.slice(WARM_UP)) * 1000, unit: 'ms' } as const);
    }
    return { rows };
  });
}

export const burn: Part = {
  name: 'burn',
  what: 'burning and unburning the kernel, in one process and as commands',
  run,
};
