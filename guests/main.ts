/** What the set-up's programs do with errors. */

import { reportError } from '../src/cli/errors.ts';

/** Runs a program; an error becomes one line and the exit status. */
export async function runMain(body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    process.exitCode = reportError(error, (text) => process.stderr.write(text));
  }
}
