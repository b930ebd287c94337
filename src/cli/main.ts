/** The `previrt` command. Each command registers itself; what is heavy it imports when it runs. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command } from 'commander';
import { registerAudit } from './audit.ts';
import { registerBurn } from './burn.ts';
import { registerCheck } from './check.ts';
import { reportError, systemError } from './errors.ts';
import { registerInspect } from './inspect.ts';
import { registerMigrate } from './migrate.ts';
import { registerProfile } from './profile.ts';
import { registerReburn } from './reburn.ts';
import { registerResume } from './resume.ts';
import { registerRun } from './run.ts';
import { registerSnapshot } from './snapshot.ts';
import { registerState } from './state.ts';
import { registerUnburn } from './unburn.ts';
import { registerXlConfig } from './xl-config.ts';

const COMMANDS: readonly ((program: Command) => void)[] = [
  registerInspect,
  registerAudit,
  registerBurn,
  registerCheck,
  registerProfile,
  registerMigrate,
  registerReburn,
  registerResume,
  registerRun,
  registerSnapshot,
  registerState,
  registerUnburn,
  registerXlConfig,
];

/** Commander speaks in its own voice ("error: ..."); this gives its errors ours. */
const usageError = (text: string, write: (text: string) => void): void =>
  write(text.replace(/^error: /, 'previrt: '));

/** Of the package. */
const version = (): string =>
  (JSON.parse(readFileSync(join(import.meta.dirname, '../../package.json'), 'utf8')) as { version: string })
    .version;

function createProgram(): Command {
  const program = new Command('previrt')
    .description('make an operating-system kernel ready for every hypervisor without porting it')
    .version(version())
    .configureOutput({ outputError: usageError })
    .exitOverride();
  for (const register of COMMANDS) register(program);
  return program;
}

const report = (error: unknown): number => reportError(error, (text) => process.stderr.write(text));

// A reader that has seen enough (`| head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) =>
  process.exit(error.code === 'EPIPE' ? undefined : report(systemError(error, 'write', 'standard output'))),
);
// Messages that find no room or no reader end nothing: what runs goes on.
process.stderr.on('error', () => {});

try {
  await createProgram().parseAsync();
} catch (error) {
  process.exitCode = report(error);
}
