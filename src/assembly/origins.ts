/**
 * Where a statement comes from: the header and line that the compiler names in
 * the assembly text, by inline-assembly markers and by line directives. A rule
 * names headers and functions; their lines are found in the header itself.
 */

import type { AccessRule } from './policy.ts';
import { pathMatches } from './policy.ts';

/** The text of a source file by its path, which may be one from where the compiler runs; undefined if it cannot be read. */
export type ReadSource = (path: string) => string | undefined;

/** Lines of one header that a rule names, first and last; `undefined`: all of them. */
interface Watched {
  readonly rule: AccessRule;
  readonly ranges: readonly (readonly [number, number])[] | undefined;
}

const FILE_DIRECTIVE = /^(\d+)\s+"((?:[^"\\]|\\.)*)"(?:\s+"((?:[^"\\]|\\.)*)")?/;
const MARKER = /^# (\d+) "((?:[^"\\]|\\.)*)" 1$/;

export class Origins {
  private readonly rules: readonly AccessRule[];
  private readonly readSource: ReadSource;
  private readonly byPath = new Map<string, readonly Watched[]>();
  private readonly byNumber = new Map<number, readonly Watched[]>();
  /** What paths begin from, up to a slash, where the compiler says it. */
  private folder = '';

  constructor(rules: readonly AccessRule[], readSource: ReadSource) {
    this.rules = rules;
    this.readSource = readSource;
  }

  /** Whether a line directive may lead to a rule at all. */
  get watching(): boolean {
    return this.byNumber.size > 0;
  }

  /** `.file N "path"` or `.file N "folder" "name"`. */
  file(operands: string): void {
    const [, number, first = '', second] = FILE_DIRECTIVE.exec(operands) ?? [];
    if (number === undefined) return;
    if (number === '0') this.folder = `${first}/`;
    const watched = this.watch(second === undefined ? first : `${first}/${second}`);
    if (watched.length > 0) this.byNumber.set(Number(number), watched);
    else this.byNumber.delete(Number(number));
  }

  /** Rules for a line directive's file and line. */
  ofLine(file: number, line: number): readonly AccessRule[] {
    const watched = this.byNumber.get(file);
    return watched === undefined ? NONE : matching(watched, line, false);
  }

  /** Rules for an inline-assembly statement, by the marker in front of it. */
  ofMarker(marker: string): readonly AccessRule[] {
    const [, line, path] = MARKER.exec(marker) ?? [];
    return path === undefined ? NONE : matching(this.watch(path), Number(line), true);
  }

  private watch(path: string): readonly Watched[] {
    const known = this.byPath.get(path);
    if (known !== undefined) return known;
    const watched = this.rules
      .filter(({ file }) => pathMatches(file, path))
      .map((rule): Watched => ({ rule, ranges: rule.functions && this.ranges(path, rule.functions) }));
    this.byPath.set(path, watched);
    return watched;
  }

  private ranges(path: string, functions: readonly string[]): readonly (readonly [number, number])[] {
    const source = this.readSource(path.startsWith('/') ? path : this.folder + path);
    return source === undefined ? [] : functionLines(source, functions);
  }
}

const NONE: readonly AccessRule[] = [];

function matching(watched: readonly Watched[], line: number, assembly: boolean): readonly AccessRule[] {
  const rules = watched
    .filter(
      ({ rule, ranges }) =>
        (assembly || !rule.assembly) &&
        (ranges?.some(([first, last]) => line >= first && line <= last) ?? true),
    )
    .map(({ rule }) => rule);
  return rules.length === 0 ? NONE : rules;
}

/**
 * First and last lines, counted from 1, of the definitions of C functions. A
 * name may be defined several times, under different conditions of the
 * preprocessor.
 */
export function functionLines(source: string, names: readonly string[]): (readonly [number, number])[] {
  const text = withoutComments(source);
  const found: (readonly [number, number])[] = [];
  const lineOf = lineCounter(text);
  for (const { index, length, open } of definitions(text, new Set(names))) {
    const close = closing(text, open + 1, '{', '}');
    found.push([lineOf(index), lineOf(close < 0 ? index + length : close)]);
  }
  return found;
}

/** Each name followed by parameters in parentheses and a block. */
function* definitions(text: string, names: ReadonlySet<string>) {
  for (const { 0: match, 1: name = '', index } of text.matchAll(/\b([A-Za-z_]\w*)\s*\(/g)) {
    if (!names.has(name)) continue;
    const end = closing(text, index + match.length, '(', ')');
    const open = end < 0 ? -1 : (/^\s*(?=\{)/.exec(text.slice(end + 1, end + 200))?.[0].length ?? -1);
    if (open >= 0) yield { index, length: match.length, open: end + 1 + open };
  }
}

/** Where what is open at `from` closes, or -1. */
function closing(text: string, from: number, open: string, close: string): number {
  let depth = 1;
  for (let at = from; at < text.length; at++) {
    if (text[at] === open) depth++;
    else if (text[at] === close && --depth === 0) return at;
  }
  return -1;
}

/** Blanks in their place, so that lines stay where they are. */
const withoutComments = (source: string): string =>
  source.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g, (text) =>
    text.replace(/[^\n]/g, ' '),
  );

function lineCounter(text: string): (offset: number) => number {
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return (offset) => {
    let low = 0;
    let high = starts.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((starts[middle] as number) <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  };
}
