/**
 * Types, style, then all tests (or those in files whose names contain an
 * argument). The last line counts them; the status is 1 if anything failed,
 * and on CI also if anything was skipped: there every test can run.
 */

import { spawnSync } from 'node:child_process';
import { startVitest, type TestModule } from 'vitest/node';
import { plural } from '../src/report/table.ts';

interface Skip {
  readonly name: string;
  readonly reason: string;
}

interface Outcome {
  passed: number;
  readonly failed: string[];
  readonly skipped: Skip[];
}

/** Programs that check the sources; each counts as one test. */
const CHECKS: Readonly<Record<string, readonly string[]>> = {
  types: ['tsc', '--noEmit'],
  style: ['biome', 'check', '.'],
};

function runChecks(outcome: Outcome): void {
  for (const [name, [program, ...args]] of Object.entries(CHECKS)) {
    const { status } = spawnSync(`node_modules/.bin/${program}`, args, { stdio: 'inherit' });
    if (status === 0) outcome.passed++;
    else outcome.failed.push(`${name} (${program} ${args.join(' ')})`);
  }
}

function collect(module: TestModule, outcome: Outcome): void {
  const file = module.relativeModuleId;
  // A file that cannot be loaded, or a hook outside any test.
  if (module.errors().length > 0) outcome.failed.push(file);
  for (const test of module.children.allTests()) {
    const name = `${file} > ${test.fullName}`;
    const result = test.result();
    if (result.state === 'passed') outcome.passed++;
    else if (result.state === 'failed') outcome.failed.push(name);
    // A test that never ran is no success either.
    else if (result.state === 'pending') outcome.failed.push(`${name} (did not run)`);
    else outcome.skipped.push({ name, reason: result.note ?? 'no reason given' });
  }
}

async function runTests(filters: string[], outcome: Outcome): Promise<void> {
  const vitest = await startVitest('test', filters, { watch: false });
  for (const module of vitest.state.getTestModules()) collect(module, outcome);
  const errors = vitest.state.getUnhandledErrors();
  if (errors.length > 0) outcome.failed.push(plural(errors.length, 'unhandled error'));
  await vitest.close();
}

const outcome: Outcome = { passed: 0, failed: [], skipped: [] };
const filters = process.argv.slice(2);
if (filters.length === 0) runChecks(outcome);
await runTests(filters, outcome);
const { passed, failed, skipped } = outcome;
for (const { name, reason } of skipped) console.log(`skipped: ${name}: ${reason}`);
for (const name of failed) console.log(`failed: ${name}`);
const skippedOnCi = process.env.CI === 'true' && skipped.length > 0;
if (skippedOnCi) console.log('On CI no test may be skipped.');
console.log(`${passed} passed, ${failed.length} failed, ${skipped.length} skipped`);
// Workers that hang must not keep it.
process.exit(failed.length > 0 || passed === 0 || skippedOnCi ? 1 : 0);
