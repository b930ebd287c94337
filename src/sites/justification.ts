/**
 * Justified findings of the audit: a kernel family's rule file says which
 * sensitive instructions need no site, and why. It holds for a kernel that
 * defines the file's `symbol`.
 */

import { InputError } from '../elf/input-error.ts';
import type { Finding } from './audit.ts';

export interface Justification {
  /** Patterns with `*`; one that is missing matches all. */
  readonly function?: string;
  readonly section?: string;
  readonly instruction?: string;
  readonly kinds?: readonly string[];
  readonly reason: string;
}

export interface AuditRules {
  /** Tells the family's kernels. */
  readonly symbol: string;
  readonly justified: readonly Justification[];
  /** Code that lies in the kernel as data and is not disassembled, by symbol. */
  readonly data: readonly { readonly symbol: string; readonly reason: string }[];
}

const PATTERNS = ['function', 'section', 'instruction'] as const;

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const isText = (value: unknown): value is string => typeof value === 'string' && value !== '';

/** @throws InputError if the text is not JSON of this form. */
export function parseAuditRules(text: string): AuditRules {
  let rules: unknown;
  try {
    rules = JSON.parse(text);
  } catch {
    throw new InputError('not valid JSON');
  }
  if (
    !isRecord(rules) ||
    !isText(rules.symbol) ||
    !Array.isArray(rules.justified) ||
    !Array.isArray(rules.data)
  )
    throw new InputError('audit rules need "symbol", "justified" and "data"');
  rules.justified.forEach((rule: unknown, index) => {
    const good =
      isRecord(rule) &&
      isText(rule.reason) &&
      PATTERNS.some((name) => isText(rule[name])) &&
      PATTERNS.every((name) => rule[name] === undefined || isText(rule[name])) &&
      (rule.kinds === undefined || (Array.isArray(rule.kinds) && rule.kinds.every(isText)));
    if (!good) throw new InputError(`justification ${index} needs a reason and a pattern`);
  });
  rules.data.forEach((rule: unknown, index) => {
    if (!isRecord(rule) || !isText(rule.symbol) || !isText(rule.reason))
      throw new InputError(`data ${index} needs a symbol and a reason`);
  });
  return rules as unknown as AuditRules;
}

const matcher = (pattern: string): RegExp =>
  new RegExp(
    `^${pattern
      .split('*')
      .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      .join('.*')}$`,
  );

export interface Judged {
  /** Sensitive instructions that should have a site and have none. */
  readonly open: readonly Finding[];
  readonly justified: readonly (Finding & { readonly reason: string })[];
}

/** The first rule that matches a finding justifies it. */
export function judge(findings: readonly Finding[], rules: readonly Justification[]): Judged {
  const compiled = rules.map((rule) => ({
    ...rule,
    patterns: PATTERNS.flatMap((name) =>
      rule[name] === undefined ? [] : [{ name, regexp: matcher(rule[name]) }],
    ),
  }));
  const reasonFor = (finding: Finding): string | undefined =>
    compiled.find(
      ({ patterns, kinds }) =>
        (kinds === undefined || kinds.includes(finding.kind)) &&
        patterns.every(({ name, regexp }) => regexp.test(finding[name])),
    )?.reason;
  const open: Finding[] = [];
  const justified: (Finding & { reason: string })[] = [];
  for (const finding of findings) {
    const reason = reasonFor(finding);
    if (reason === undefined) open.push(finding);
    else justified.push({ ...finding, reason });
  }
  return { open, justified };
}
