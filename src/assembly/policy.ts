/** What to annotate in a source file: the part of a kernel family's rule file that concerns it. */
import { ANNOUNCEMENTS, type Announcement, DOMAINS, type DomainName } from '../x86/site-kinds.ts';

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
}

/** The rule file of a kernel family (for Linux: guests/linux/domains.json). */
export interface Rules {
  readonly domains: readonly DomainName[];
  readonly absoluteSections: readonly string[];
  readonly discardedSections: readonly string[];
  readonly announcements: ReadonlyMap<string, Announcement>;
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

  const root = record(value, 'the rule file');
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

/**
 * The policy for a source file. A pattern names the end of the path, from any
 * folder on; `*` is any part of a name, `**` any number of folders.
 */
export function policyFor(rules: Rules, sourcePath: string): Policy {
  const rule = rules.files.find(({ match }) => match.some((pattern) => matches(pattern, sourcePath)));
  return {
    domains: rule?.domains ?? rules.domains,
    absolute: rule?.absolute ?? false,
    absoluteSections: rules.absoluteSections,
    discardedSections: rules.discardedSections,
    announcements: rules.announcements,
  };
}

function matches(pattern: string, path: string): boolean {
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
