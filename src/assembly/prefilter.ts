/**
 * A cheap look at a whole source, for `grep -E -i` in front of the annotator: most
 * files of a kernel hold nothing sensitive. It may say yes in vain, never no.
 * The expressions are kept short, because grep compiles them for every file.
 */

import { RAW_ENCODINGS, SENSITIVE_MNEMONICS } from '../x86/sensitive.ts';
import type { Rules } from './policy.ts';
import type { ProfiledStatement } from './profile.ts';

const SUFFIX = '[bwlq]?';

/** One POSIX extended regular expression a line; a source that matches none has no site. */
export function prefilterPatterns(): string[] {
  const byOperands = new Set(['mov', 'push', 'pop']);
  const anywhere: string[] = [];
  const asStatement: string[] = [];
  for (const [word, { form }] of SENSITIVE_MNEMONICS) {
    if (byOperands.has(form)) continue;
    if (/[bwlq]$/.test(word) && SENSITIVE_MNEMONICS.has(word.slice(0, -1))) continue;
    (form === 'fixed' ? anywhere : asStatement).push(word);
  }
  const statement = '(^|[;:"/\\])[[:space:]]*';
  const prefixes = '((rep[a-z]*|lock|(data|addr)(16|32)|[cdefgs]s)[[:space:];]+)*';
  return [
    // Also as a bare argument of a macro.
    `(^|[^a-z0-9_.$])(${anywhere.join('|')})${SUFFIX}([^a-z0-9_.$-]|$)`,
    `${statement}${prefixes}(${asStatement.join('|')})${SUFFIX}([[:space:];"#/]|$)`,
    '%([cdefgs]s([^a-z0-9:]|$)|c?[dr][br]?[0-9])',
    rawBytes(),
    '\\.previrt',
  ];
}

const escaped = (text: string): string => text.replace(/[.*+?^$(){}|[\]\\]/g, '\\$&');

/** The same for what names no instruction: headers and functions of a rule file, functions of a profile. */
export function originPatterns(
  { accesses, announcements }: Pick<Rules, 'accesses' | 'announcements'>,
  profile: readonly ProfiledStatement[],
): string[] {
  const headers = [...new Set(accesses.map(({ file }) => file.split('/').at(-1) as string))];
  const functions = [
    ...new Set([...announcements.keys(), ...profile.map((statement) => statement.function)]),
  ];
  return [
    ...headers.map((name) => `${name.split('*').map(escaped).join('[^/"]*')}"`),
    ...functions.map((name) => `^${escaped(name)}:`),
  ];
}

/**
 * `.byte` and the first two bytes of an instruction. Numbers may have any radix
 * and leading zeros; only hexadecimal, which everybody writes, is looked at closely.
 */
function rawBytes(): string {
  const pairs = [...RAW_ENCODINGS.keys()].map((bytes) => [bytes.slice(0, 2), bytes.slice(2, 4)] as const);
  const digits = (byte: string) => Number.parseInt(byte, 16).toString(16);
  const first = [...new Set(pairs.map(([byte]) => digits(byte)))].join('|');
  const second = [...new Set(pairs.map(([, byte]) => digits(byte)))].join('|');
  const comma = '[[:space:]]*,[[:space:]]*';
  const notHexadecimal = '([1-9]|0[0-7b])';
  const closely = `0x0*(${first})${comma}(0x0*(${second})([^0-9a-f]|$)|${notHexadecimal})`;
  return `\\.byte[[:space:]]+(${closely}|${notHexadecimal}[0-9]*${comma})`;
}
