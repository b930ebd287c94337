/** What `previrt inspect` says of a kernel. Pure. */

import { type ElfImage, formatAddress } from '../elf/image.ts';
import type { Site } from '../sites/site.ts';
import type { BurnInfo } from '../substitution/burn-info.ts';
import { SITE_KINDS, type SiteKindName } from '../x86/site-kinds.ts';
import { SITE_FLAGS } from '../x86/site-record.ts';
import { type Count, countBy } from './count.ts';
import { formatTable, plural } from './table.ts';

const FLAG_NAMES = Object.keys(SITE_FLAGS) as (keyof typeof SITE_FLAGS)[];

export interface Inspection {
  readonly class: 32 | 64;
  readonly burned: {
    readonly target: string;
    readonly domains: readonly string[];
    readonly keep: string;
  } | null;
  readonly count: number;
  /** Bytes of all slots, and how many of them the annotator added. */
  readonly slotBytes: number;
  readonly addedBytes: number;
  readonly flags: Readonly<Record<string, number>>;
  readonly domains: readonly Count[];
  readonly kinds: readonly Count[];
  readonly sections: readonly Count[];
  readonly functions: readonly Count[];
  readonly sites: readonly {
    readonly address: string;
    readonly length: number;
    readonly widening: number;
    readonly domain: string;
    readonly kind: string;
    readonly flags: readonly string[];
    readonly original: string;
    readonly section: string;
    readonly function: string;
  }[];
}

export function inspection(kernel: {
  readonly elf: ElfImage;
  readonly sites: readonly Site[];
  readonly burned: BurnInfo | undefined;
}): Inspection {
  const { elf, sites, burned } = kernel;
  return {
    class: elf.class,
    burned: burned ? { target: burned.target, domains: burned.domains, keep: burned.keep } : null,
    count: sites.length,
    slotBytes: sites.reduce((sum, site) => sum + site.length, 0),
    addedBytes: sites.reduce((sum, site) => sum + site.widening, 0),
    flags: Object.fromEntries(
      FLAG_NAMES.map((name) => [name, sites.filter((site) => site.flags & SITE_FLAGS[name]).length]),
    ),
    domains: countBy(sites, (site) => site.domain),
    kinds: countBy(sites, (site) => site.kind),
    sections: countBy(sites, (site) => site.section),
    functions: countBy(sites, (site) => site.function || '(none)'),
    sites: sites.map((site) => ({
      address: formatAddress(site.address),
      length: site.length,
      widening: site.widening,
      domain: site.domain,
      kind: site.kind,
      flags: FLAG_NAMES.filter((name) => site.flags & SITE_FLAGS[name]),
      original: Buffer.from(site.original).toString('hex'),
      section: site.section,
      function: site.function,
    })),
  };
}

const FUNCTIONS_SHOWN = 15;

export function formatInspection(name: string, report: Inspection): string {
  const state = report.burned
    ? `burned for ${report.burned.target} (${report.burned.domains.join(', ')}; originals kept as ${report.burned.keep})`
    : 'not burned';
  const counts = (title: string, rows: readonly Count[]): string =>
    formatTable(
      [
        { title, align: 'left' },
        { title: 'sites', align: 'right' },
      ],
      rows.map((row) => [row.name, row.count]),
    );
  const kinds = formatTable(
    [
      { title: 'kind', align: 'left' },
      { title: 'domain', align: 'left' },
      { title: 'sites', align: 'right' },
    ],
    report.kinds.map((row) => [row.name, SITE_KINDS[row.name as SiteKindName].domain, row.count]),
  );
  const shown = report.functions.slice(0, FUNCTIONS_SHOWN);
  const more = report.functions.length - shown.length;
  return [
    `${name}: ${report.class}-bit, ${plural(report.count, 'site')}, ${state}`,
    `slots take ${report.slotBytes} bytes, ${report.addedBytes} of them added; ` +
      `${report.flags.flagsLive} with live flags, ${report.flags.absolute} in code that moves, ` +
      `${report.flags.interiorBoundary} with a boundary inside`,
    counts('domain', report.domains),
    kinds,
    counts('section', report.sections),
    counts('function', shown) +
      (more > 0 ? `\n... and ${plural(more, 'function')} more (--json lists all)` : ''),
  ]
    .join('\n\n')
    .concat('\n');
}
