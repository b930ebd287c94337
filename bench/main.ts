/** npm run bench: how fast previrt is, beside its plain peers, in one run on one machine. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Argument, Command } from 'commander';
import { runMain } from '../guests/main.ts';
import { reportError } from '../src/cli/errors.ts';
import { InputError } from '../src/elf/input-error.ts';
import { thisMachine } from './machine.ts';
import type { Part } from './part.ts';
import { annotator } from './parts/annotator.ts';
import { boot } from './parts/boot.ts';
import { build } from './parts/build.ts';
import { burn } from './parts/burn.ts';
import { domains } from './parts/domains.ts';
import { instructions } from './parts/instructions.ts';
import { legacy } from './parts/legacy.ts';
import { migrate } from './parts/migrate.ts';
import { osbench } from './parts/osbench.ts';
import { sha } from './parts/sha.ts';
import { size } from './parts/size.ts';
import { syscall } from './parts/syscall.ts';
import { xen } from './parts/xen.ts';
import { formatReport, type PartResult, reportJson } from './report.ts';

const PARTS: readonly Part[] = [
  ...[annotator, build, size, instructions, sha, boot, osbench, syscall, burn, migrate, domains, xen, legacy],
];

const HELP = `
Parts, in the order they run; without a name all do:
${PARTS.map(({ name, what }) => `  ${name.padEnd(14)}${what}`).join('\n')}

Kernels and whatever else is needed are built first, unless the cache has them.
A part that compares runs both sides now, on this machine, one after the other:
let nothing else run. Progress is on standard error; the table, or JSON, comes
at the end. 'must' and 'aim' are the project's goals, 'reached' says which one
the value meets. docs/performance.md says how each row is counted.

Exit status: 0 all parts were measured, whatever they found, 1 some were not.`;

/** Runs the parts; one that cannot be run is told of, and the others go on. */
async function bench(names: readonly string[], json: boolean): Promise<void> {
  const chosen = names.length === 0 ? PARTS : PARTS.filter(({ name }) => names.includes(name));
  const machine = thisMachine();
  const results: PartResult[] = [];
  let interrupted = false;
  process.on('SIGINT', () => {
    interrupted = true;
  });
  const folder = mkdtempSync(join(tmpdir(), 'previrt-bench-'));
  try {
    for (const part of chosen)
      try {
        results.push({ part: part.name, ...(await part.run(folder)) });
        if (interrupted) throw new InputError('interrupted');
      } catch (error) {
        // The part's programs have got the same Ctrl-C: nothing is wrong with it.
        if (interrupted) throw error;
        process.exitCode = reportError(error, (text) => process.stderr.write(`${part.name}: ${text}`));
      }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  if (results.length === 0) return;
  const report = { machine, parts: results };
  process.stdout.write(json ? `${JSON.stringify(reportJson(report))}\n` : formatReport(report));
}

await runMain(async () => {
  await new Command('npm run bench --')
    .description('measure previrt, beside its plain peers')
    .addArgument(new Argument('[part...]', 'what to measure').choices(PARTS.map(({ name }) => name)))
    .option('--json', 'as JSON')
    .addHelpText('after', HELP)
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'previrt: ')) })
    .exitOverride()
    .action((names: string[], { json = false }: { json?: boolean }) => bench(names, json))
    .parseAsync();
});
