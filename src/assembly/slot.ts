/** The text of a slot: what goes in front of a sensitive instruction, and its record behind it. */
import { DOMAINS, type DomainName, SITE_KINDS, type SiteKindName } from '../x86/site-kinds.ts';
import {
  SITE_FLAGS,
  SITE_RECORD_VERSION,
  SITE_SECTION,
  SLOT_LENGTH,
  SLOT_LENGTH_ABSOLUTE,
} from '../x86/site-record.ts';
import type { Operation } from './operation.ts';

/** How a slot is filled up in front of its instruction. */
export interface Widening {
  /** Bytes in front of the original instruction. */
  readonly count: number;
  /** The mnemonic of each byte: a redundant segment prefix, or `nop`. */
  readonly filler: 'cs' | 'ds' | 'ss' | 'nop';
}

const OPCODES = { cs: '0x2e', ds: '0x3e', ss: '0x36', nop: '0x90' } as const;

/**
 * Chooses the filler for an instruction preceded by `prefixes` bytes of its own
 * prefixes. A segment prefix must repeat the memory operand's default segment;
 * in 64-bit code %ss can be spelled only as a byte, and %ds is ignored as well.
 */
export function widen(
  operation: Operation,
  prefixes: { count: number; segment: boolean },
  absolute: boolean,
  long: boolean,
): Widening {
  const wanted = absolute ? SLOT_LENGTH_ABSOLUTE : SLOT_LENGTH;
  const count = Math.max(0, wanted - prefixes.count - operation.length);
  const { memory, opaque } = operation;
  if (opaque || memory?.segmentOverride || (memory !== undefined && prefixes.segment)) {
    return { count, filler: 'nop' };
  }
  if (memory === undefined) return { count, filler: 'cs' };
  return { count, filler: memory.stackSegment && !long ? 'ss' : 'ds' };
}

export interface Site {
  readonly kind: SiteKindName;
  readonly domain: DomainName;
  readonly widening: Widening;
  readonly flagsLive: boolean;
  readonly absolute: boolean;
  readonly long: boolean;
}

/** Two local labels that the rest of the text does not use. */
export interface SlotLabels {
  readonly begin: string;
  readonly end: string;
}

/** Picks numeric local labels that do not occur in the text. */
export function chooseLabels(text: string): SlotLabels {
  const labels = (stem: number) => ({ begin: `${stem}1`, end: `${stem}2` });
  const usual = labels(FIRST_STEM);
  if (!text.includes(usual.begin) && !text.includes(usual.end)) return usual;
  const taken = new Set([...text.matchAll(/\d{4,}(?=[12])/g)].map(([stem]) => Number(stem)));
  let stem = FIRST_STEM;
  while (taken.has(stem)) stem++;
  return labels(stem);
}

/** Labels that nobody writes by hand. */
const FIRST_STEM = 7777;

/**
 * What goes in front of the instruction. Prefixes are statements of their own,
 * so that the assembler counts the first as the line's address; the last stands
 * with the instruction where nothing may come between (a macro that has the
 * instruction's name would be called otherwise).
 */
export function slotOpening(labels: SlotLabels, { count, filler }: Widening): string {
  if (count === 0) return `${labels.begin}:`;
  const last = filler === 'nop' ? 'nop;' : `${filler} `;
  return `${labels.begin}:${`${filler};`.repeat(count - 1)}${last}`;
}

/** The same as one statement that works in front of data as well. */
export function slotOpeningRaw(labels: SlotLabels, { count, filler }: Widening): string {
  if (count === 0) return `${labels.begin}:`;
  return `${labels.begin}:.byte ${Array(count).fill(OPCODES[filler]).join(',')};`;
}

/** The label that ends the slot, and the record. Emits no byte into the code. */
export function slotClosing(labels: SlotLabels, site: Site): string {
  const { widening } = site;
  return closing(
    labels,
    `${widening.count}`,
    `${DOMAINS[site.domain]}`,
    `${SITE_KINDS[site.kind].id}`,
    `${recordFlags(site)}`,
  );
}

export function recordFlags(site: Site): number {
  return (
    (site.widening.filler === 'nop' && site.widening.count > 0 ? SITE_FLAGS.interiorBoundary : 0) |
    (site.flagsLive ? SITE_FLAGS.flagsLive : 0) |
    (site.absolute ? SITE_FLAGS.absolute : 0) |
    (site.long ? SITE_FLAGS.long : 0)
  );
}

/** What introduces a record in text that was annotated before. */
export const RECORD_OPENING = `.pushsection ${SITE_SECTION}`;
export const RECORD_CLOSING = '.popsection';

/** `a?`: the section joins the group of the code, so that a discarded function takes its records along. */
function closing(labels: SlotLabels, count: string, domain: string, kind: string, flags: string): string {
  const { begin, end } = labels;
  return (
    `;${end}:${RECORD_OPENING},"a?";.long ${begin}b-.;.byte ${end}b-${begin}b,${count},${domain},${kind};` +
    `.short ${flags},${SITE_RECORD_VERSION};${RECORD_CLOSING}`
  );
}

/**
 * Instructions that travel as macro arguments cannot hold a record, whose text
 * has quotes and commas. They become calls of this macro.
 */
export const SITE_MACRO = 'previrt_site';

/** Defines {@link SITE_MACRO}, on one line. */
export function siteMacroDefinition(labels: SlotLabels): string {
  return (
    `.macro ${SITE_MACRO} fill,skip,count,domain,kind,flags,insn:vararg;` +
    `${labels.begin}:.fill \\skip,1,\\fill;\\insn` +
    `${closing(labels, '\\count', '\\domain', '\\kind', '\\flags')};.endm;`
  );
}

/** The call that stands for `statement` in a macro's argument. */
export function siteMacroCall(site: Site, statement: string): string {
  return macroCall(site, site.widening.count, statement);
}

/**
 * A macro that takes the place of a mnemonic, for files that pass it on as a
 * bare macro argument. The last prefix stands in the body with the mnemonic, to
 * keep the macro from calling itself.
 */
export function mnemonicMacroDefinition(mnemonic: string, site: Site): string {
  const { count, filler } = site.widening;
  return `.macro ${mnemonic};${macroCall(site, count - 1, `${filler} ${mnemonic}`)};.endm;`;
}

function macroCall(site: Site, skip: number, statement: string): string {
  const { count, filler } = site.widening;
  const { domain, kind } = site;
  const fields = [OPCODES[filler], skip, count, DOMAINS[domain], SITE_KINDS[kind].id, recordFlags(site)];
  return `${SITE_MACRO} ${fields.join(',')},${statement}`;
}
