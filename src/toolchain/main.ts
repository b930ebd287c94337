/**
 * What the assembler front (libexec/as) calls, bundled into one file:
 *
 *   once STATE FIELD...   perform one request; make sure a server runs for the next
 *   serve STATE           the resident server; STATE is a directory only the user can read
 *   patterns              print the front's prefilter
 *   origins RULES PROFILE print what a rule file and a profile (may be '') add to it
 *   expand ARG...         print the arguments, response files expanded, quoted for the shell
 */
import { spawn } from 'node:child_process';
import { openSync, readdirSync } from 'node:fs';
import { originPatterns, prefilterPatterns } from '../assembly/prefilter.ts';
import { parseRequest, perform, RequestError, readProfile, readRules } from './request.ts';
import { expandResponseFiles, quoteForShell } from './response-file.ts';
import { serve } from './server.ts';

const [command, ...values] = process.argv.slice(2);

function once([state, ...fields]: string[]): void {
  const request = parseRequest(fields);
  if (state === undefined || request === undefined) throw new RequestError('malformed request');
  // The server has nothing of the build's open, whose end somebody may be waiting for.
  const nothing = openSync('/dev/null', 'r+');
  const descriptors = Math.max(...readdirSync('/proc/self/fd').map(Number)) + 1;
  spawn(process.execPath, [process.argv[1] as string, 'serve', state], {
    cwd: '/',
    detached: true,
    stdio: Array(descriptors).fill(nothing),
  }).unref();
  perform(request);
}

function origins(rules: string, profile: string): void {
  const patterns = originPatterns(readRules(rules), profile === '' ? [] : readProfile(profile));
  process.stdout.write(patterns.map((pattern) => `${pattern}\n`).join(''));
}

try {
  if (command === 'once') once(values);
  else if (command === 'serve') serve(values[0] as string);
  else if (command === 'patterns') console.log(prefilterPatterns().join('\n'));
  else if (command === 'origins') origins(values[0] as string, values[1] as string);
  else if (command === 'expand') console.log(expandResponseFiles(values).map(quoteForShell).join(' '));
  else throw new RequestError(`unknown command '${command}'`);
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException;
  if (!(error instanceof RequestError) && code === undefined) throw error;
  console.error(`previrt-as: ${message}`);
  process.exitCode = 1;
}
