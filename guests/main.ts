/** What the set-up's programs do with errors and with Ctrl-C. */

import { reportError } from '../src/cli/errors.ts';

const EXIT_INTERRUPTED = 130;

/**
 * Runs a program; an error becomes one line and the exit status. A Ctrl-C ends
 * what it has started, by the terminal, and that fails: so what is half made
 * is removed before this process ends too.
 */
export async function runMain(body: () => Promise<void>): Promise<void> {
  let interrupted = false;
  process.on('SIGINT', () => {
    interrupted = true;
  });
  try {
    await body();
  } catch (error) {
    process.exitCode = interrupted
      ? EXIT_INTERRUPTED
      : reportError(error, (text) => process.stderr.write(text));
  }
}
