/** What to annotate in a source file: the part of a kernel family's rule file that concerns it. */
import { ANNOUNCEMENTS, type Announcement, DOMAINS, type DomainName } from '../x86/site-kinds.ts';
import type { ProfiledStatement } from './profile.ts';

/** Domains of accesses to memory: no instruction tells them, only where it comes from. */
export const MEMORY_DOMAINS = ['mmio', 'pagetable'] as const satisfies readonly DomainName[];
export type MemoryDomain = (typeof MEMORY_DOMAINS)[number];

/** Memory accesses that are sites because of the source line they come from. */
export interface AccessRule {
  readonly domain: MemoryDomain;
  /** The header, by the end of its path, as `match` has it. */
  readonly file: string;
  /** Functions defined there; without them all of the file counts. */
  readonly functions?: readonly string[];
  /** Only what the file's inline assembly says, not what the compiler makes of its C. */
  readonly assembly?: boolean;
  /** Only within functions of these names: where the file serves others too. */
  readonly within?: readonly string[];
}

export interface Policy {
  /** Domains to annotate. `entry` makes the file user code: only its ways into the kernel are sites. */
  readonly domains: readonly DomainName[];
  /** All code of the file runs away from the address it is linked at. */
  readonly absolute: boolean;
  /** Sections whose code does, by name or by the part of the name before a dot. */
  readonly absoluteSections: readonly string[];
  /** Sections the linker throws away: a record must not point into them. */
  readonly discardedSections: readonly string[];
  /** Functions that announce something when they are entered, by symbol. */
  readonly announcements: ReadonlyMap<string, Announcement>;
  /** Memory accesses that are sites. */
  readonly accesses: readonly AccessRule[];
  /** Others that a run has found. */
  readonly profile: readonly ProfiledStatement[];
}

/** The rule file of a kernel family (for Linux: guests/linux/domains.json). */
export interface Rules {
  readonly domains: readonly DomainName[];
  readonly absoluteSections: readonly string[];
  readonly discardedSections: readonly string[];
  readonly announcements: ReadonlyMap<string, Announcement>;
  readonly accesses: readonly AccessRule[];
  /** The first rule that matches a file decides for it. */
  readonly files: readonly {
    readonly match: readonly string[];
    readonly domains?: readonly DomainName[];
    readonly absolute?: boolean;
  }[];
}

export class RulesError extends Error {}

/** Checks the shape of a parsed rule file; `where` names it in the error. */
export function parseRules(value: unknown, where: string): Rules {
  const fail = (what: string): never => {
    throw new RulesError(`${where}: ${what}`);
  };
  const record = (item: unknown, name: string): Record<string, unknown> =>
    typeof item === 'object' && item !== null && !Array.isArray(item)
      ? (item as Record<string, unknown>)
      : fail(`${name} must be an object`);
  const strings = (item: unknown, name: string): string[] =>
    Array.isArray(item) && item.every((entry) => typeof entry === 'string')
      ? item
      : fail(`${name} must be a list of strings`);
  const domains = (item: unknown, name: string): DomainName[] =>
    strings(item, name).map((domain) =>
      Object.hasOwn(DOMAINS, domain)
        ? (domain as DomainName)
        : fail(`${name}: unknown domain '${domain}' (known: ${Object.keys(DOMAINS).join(', ')})`),
    );

  const announcement = (item: unknown, name: string): Announcement =>
    ANNOUNCEMENTS.find((known) => known === item) ??
    fail(`${name}: unknown announcement '${item}' (known: ${ANNOUNCEMENTS.join(', ')})`);
  const access = (rule: Record<string, unknown>, name: string): AccessRule => ({
    domain:
      MEMORY_DOMAINS.find((domain) => domain === rule.domain) ??
      fail(`${name}.domain must be one of ${MEMORY_DOMAINS.join(', ')}`),
    file: typeof rule.file === 'string' ? rule.file : fail(`${name}.file must be a string`),
    ...(rule.functions === undefined ? {} : { functions: strings(rule.functions, `${name}.functions`) }),
    ...(rule.within === undefined ? {} : { within: strings(rule.within, `${name}.within`) }),
    ...(rule.assembly === undefined ? {} : { assembly: rule.assembly === true }),
  });

  const root = record(value, 'the rule file');
  const accesses = Array.isArray(root.accesses ?? [])
    ? ((root.accesses ?? []) as unknown[])
    : fail('accesses must be a list');
  const files = Array.isArray(root.files) ? root.files : fail('files must be a list');
  return {
    domains: domains(root.domains, 'domains'),
    absoluteSections: strings(root.absoluteSections, 'absoluteSections'),
    discardedSections: strings(root.discardedSections, 'discardedSections'),
    announcements: new Map(
      Object.entries(record(root.announcements ?? {}, 'announcements')).map(([symbol, what]) => [
        symbol,
        announcement(what, `announcements.${symbol}`),
      ]),
    ),
    accesses: accesses.map((item, index) => access(record(item, `accesses[${index}]`), `accesses[${index}]`)),
    files: files.map((item, index) => {
      const rule = record(item, `files[${index}]`);
      return {
        match: strings(rule.match, `files[${index}].match`),
        ...(rule.domains === undefined ? {} : { domains: domains(rule.domains, `files[${index}].domains`) }),
        ...(rule.absolute === undefined ? {} : { absolute: rule.absolute === true }),
      };
    }),
  };
}

/** Checks the shape of a parsed profile (`previrt profile --json`); `where` names it in the error. */
export function parseProfile(value: unknown, where: string): readonly ProfiledStatement[] {
  const statements = (value as { statements?: unknown } | null)?.statements;
  const is = (item: Record<string, unknown>): boolean =>
    typeof item.function === 'string' &&
    typeof item.statement === 'string' &&
    Number.isInteger(item.ordinal) &&
    (MEMORY_DOMAINS as readonly unknown[]).includes(item.domain);
  if (
    !Array.isArray(statements) ||
    !statements.every((item) => typeof item === 'object' && item !== null && is(item))
  )
    throw new RulesError(`${where}: not what previrt profile --json writes`);
  return statements as readonly ProfiledStatement[];
}

/**
 * The policy for a source file. A pattern names the end of the path, from any
 * folder on; `*` is any part of a name, `**` any number of folders.
 */
export function policyFor(
  rules: Rules,
  sourcePath: string,
  profile: readonly ProfiledStatement[] = [],
): Policy {
  const rule = rules.files.find(({ match }) => match.some((pattern) => pathMatches(pattern, sourcePath)));
  return {
    domains: rule?.domains ?? rules.domains,
    absolute: rule?.absolute ?? false,
    absoluteSections: rules.absoluteSections,
    discardedSections: rules.discardedSections,
    announcements: rules.announcements,
    accesses: rules.accesses,
    profile,
  };
}

export function pathMatches(pattern: string, path: string): boolean {
  const expression = pattern
    .split('**')
    .map((part) =>
      part
        .split('*')
        .map((literal) => literal.replace(/[.+?^${}()|[\]\\]/g, '\\$&'))
        .join('[^/]*'),
    )
    .join('.*');
  return new RegExp(`(^|/)${expression}$`).test(path);
}
