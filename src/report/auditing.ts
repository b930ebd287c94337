/** What `previrt audit` says of a kernel. Pure. */

import { formatAddress } from '../elf/image.ts';
import type { Finding } from '../sites/audit.ts';
import { countBy } from './count.ts';
import { formatTable, plural } from './table.ts';

export interface AuditReport {
  readonly sites: number;
  readonly instructions: number;
  readonly undecodedBytes: number;
  readonly open: readonly Finding[];
  readonly justified: readonly (Finding & { readonly reason: string })[];
  /** Code that lies in the kernel as data. */
  readonly data: readonly { readonly symbol: string; readonly reason: string }[];
}

export const auditJson = (report: AuditReport): object => ({
  ...report,
  open: report.open.map((finding) => ({ ...finding, address: formatAddress(finding.address) })),
  justified: report.justified.map((finding) => ({ ...finding, address: formatAddress(finding.address) })),
});

const place = ({ function: name, section }: Finding): string => (name ? `${name} (${section})` : section);

const COLUMNS = [
  { title: 'address', align: 'left' },
  { title: 'kind', align: 'left' },
  { title: 'function', align: 'left' },
  { title: 'instruction', align: 'left' },
] as const;

const list = (findings: readonly Finding[]): string =>
  formatTable(
    COLUMNS,
    findings.map((finding) => [
      formatAddress(finding.address),
      finding.kind,
      place(finding),
      finding.instruction,
    ]),
  );

export function formatAudit(name: string, report: AuditReport): string {
  const parts = [
    `${name}: ${plural(report.instructions, 'instruction')} outside ${plural(report.sites, 'site')}; ` +
      `${plural(report.open.length, 'sensitive instruction')} without a site, ${report.justified.length} more justified` +
      (report.undecodedBytes > 0 ? `; ${plural(report.undecodedBytes, 'byte')} are no instructions` : ''),
  ];
  if (report.open.length > 0) parts.push(`without a site:\n${list(report.open)}`);
  for (const { name: reason } of countBy(report.justified, (finding) => finding.reason))
    parts.push(
      `justified: ${reason}\n${list(report.justified.filter((finding) => finding.reason === reason))}`,
    );
  if (report.data.length > 0)
    parts.push(
      `not disassembled:\n${report.data.map(({ symbol, reason }) => `${symbol}: ${reason}`).join('\n')}`,
    );
  return `${parts.join('\n\n')}\n`;
}
