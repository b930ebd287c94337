/** One job of the assembler front: a source file in, the annotated text out. */
import { readFileSync, writeFileSync } from 'node:fs';
import { annotate } from '../assembly/annotator.ts';
import { parseRules, policyFor, type Rules, RulesError } from '../assembly/policy.ts';

/** As the front passes it, in this order. */
export const REQUEST_FIELDS = ['input', 'output', 'name', 'source', 'width', 'rules'] as const;
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
 * from if known. Bytes are kept as they are, whatever their encoding.
 */
export function perform(request: Request): void {
  const text = readFileSync(request.input, 'latin1');
  const policy = policyFor(readRules(request.rules), request.source || sourceNamedIn(text) || request.name);
  const { text: annotated } = annotate(text, policy, request.width === '32' ? 32 : 64);
  // The assembler reads standard input; this makes its messages and debug lines name the file.
  const marker = /^# \d/.test(annotated) ? '' : `# 1 "${request.name.replace(/["\\]/g, '\\$&')}"\n`;
  writeFileSync(request.output, marker + annotated, 'latin1');
}

/** @throws RequestError if it cannot be read, or is no rule file */
export function readRules(path: string): Rules {
  let content: unknown;
  try {
    content = JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new RequestError(`${path}: ${(error as Error).message}; give a rule file with PREVIRT_RULES`);
  }
  try {
    return parseRules(content, path);
  } catch (error) {
    if (error instanceof RulesError) throw new RequestError(error.message);
    throw error;
  }
}

/** The file that the preprocessor's first line marker names. */
function sourceNamedIn(text: string): string | undefined {
  return /^# \d+ "([^"<][^"]*)"/.exec(text)?.[1];
}
