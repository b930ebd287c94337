/** Response files (@FILE) as the GNU tools read them. */
import { readFileSync } from 'node:fs';

/** Deeper nesting is taken for a file that names itself. */
const DEPTH = 100;

/** Replaces each @FILE that can be read by the arguments in it; one that cannot is left as it is. */
export function expandResponseFiles(args: readonly string[], depth = 0): string[] {
  return args.flatMap((arg) => {
    if (!arg.startsWith('@') || depth >= DEPTH) return [arg];
    let content: string;
    try {
      content = readFileSync(arg.slice(1), 'utf8');
    } catch {
      return [arg];
    }
    return expandResponseFiles(splitArguments(content), depth + 1);
  });
}

/** Splits at white space outside of quotes; a backslash takes the next character as it is. */
export function splitArguments(content: string): string[] {
  const args: string[] = [];
  let current: string | undefined;
  let quote = '';
  for (let at = 0; at < content.length; at++) {
    const c = content[at] as string;
    if (c === '\\' && at + 1 < content.length) {
      current = (current ?? '') + content[++at];
    } else if (quote !== '') {
      if (c === quote) quote = '';
      else current += c;
    } else if (c === '"' || c === "'") {
      quote = c;
      current ??= '';
    } else if (/\s/.test(c)) {
      if (current !== undefined) args.push(current);
      current = undefined;
    } else {
      current = (current ?? '') + c;
    }
  }
  if (current !== undefined) args.push(current);
  return args;
}

export const quoteForShell = (arg: string): string => `'${arg.replaceAll("'", `'\\''`)}'`;
