/** One job of the assembler front: a source file in, the annotated text out. */
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { annotate } from '../assembly/annotator.ts';
import { parseProfile, parseRules, policyFor, type Rules, RulesError } from '../assembly/policy.ts';
import type { ProfiledStatement } from '../assembly/profile.ts';

/** As the front passes it, in this order. */
export const REQUEST_FIELDS = [
  'input',
  'output',
  'name',
  'source',
  'width',
  'rules',
  'profile',
  'folder',
] as const;
export type Request = Readonly<Record<(typeof REQUEST_FIELDS)[number], string>>;

/** Something the user can put right; the message is one line. */
export class RequestError extends Error {}

/** Reads the fields of a request; undefined if there are too few or too many. */
export function parseRequest(values: readonly string[]): Request | undefined {
  if (values.length !== REQUEST_FIELDS.length) return undefined;
  return Object.fromEntries(REQUEST_FIELDS.map((field, index) => [field, values[index]])) as Request;
}

/**
 * Annotates `input` (a path) into `output` (a path). `name` is what the
 * assembler's messages shall call the text, `source` the file it was compiled
 * from if known, `profile` what a run has found, if anything, `folder` where the compiler runs. Bytes are
 * kept as they are, whatever their encoding.
 */
export function perform(request: Request): void {
  const text = readFileSync(request.input, 'latin1');
  const source = request.source || sourceNamedIn(text) || request.name;
  const profile = request.profile === '' ? [] : readProfile(request.profile);
  const policy = policyFor(readRules(request.rules), source, profile);
  const { text: annotated } = annotate(text, policy, request.width === '32' ? 32 : 64, (path) =>
    readSource(resolve(request.folder, path)),
  );
  // The assembler reads standard input; this makes its messages and debug lines name the file.
  const name = Buffer.from(request.name).toString('latin1');
  const marker = /^# \d/.test(annotated) ? '' : `# 1 "${name.replace(/["\\]/g, '\\$&')}"\n`;
  writeFileSync(request.output, marker + annotated, 'latin1');
}

/** What was read of a file, until the file changes: the server reads the same ones all the time. */
const known = new Map<string, { readonly mtime: number; readonly value: unknown }>();

function cached<T>(path: string, read: () => T): T {
  const mtime = statSync(path).mtimeMs;
  const before = known.get(path);
  if (before?.mtime === mtime) return before.value as T;
  const value = read();
  known.set(path, { mtime, value });
  return value;
}

function readJson<T>(path: string, variable: string, parse: (value: unknown, where: string) => T): T {
  try {
    return cached(path, () => parse(JSON.parse(readFileSync(path, 'utf8')), path));
  } catch (error) {
    if (error instanceof RulesError) throw new RequestError(error.message);
    throw new RequestError(`${path}: ${(error as Error).message}; give another file with ${variable}`);
  }
}

export const readRules = (path: string): Rules => readJson(path, 'PREVIRT_RULES', parseRules);
export const readProfile = (path: string): readonly ProfiledStatement[] =>
  readJson(path, 'PREVIRT_PROFILE', parseProfile);

/** A header of the kernel's own. */
function readSource(path: string): string | undefined {
  try {
    return cached(path, () => readFileSync(path, 'latin1'));
  } catch {
    return undefined;
  }
}

/** The file that the preprocessor's first line marker names. */
function sourceNamedIn(text: string): string | undefined {
  return /^# \d+ "([^"<][^"]*)"/.exec(text)?.[1];
}
