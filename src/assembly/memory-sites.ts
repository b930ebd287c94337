/**
 * Which statements are sites because of the memory that they access: no
 * instruction tells it, only where it comes from, or a run that found it.
 */

import type { SiteKindName } from '../x86/site-kinds.ts';
import { readAccess } from './access.ts';
import type { Section } from './assembler-state.ts';
import type { Operation } from './operation.ts';
import { Origins, type ReadSource } from './origins.ts';
import type { AccessRule, MemoryDomain, Policy } from './policy.ts';
import { normalStatement, type ProfiledStatement } from './profile.ts';

/** The kind of an access, read or written; page tables may be read unseen. */
const ACCESS_KINDS: Readonly<Record<MemoryDomain, readonly [SiteKindName | undefined, SiteKindName]>> = {
  mmio: ['mmio_read', 'mmio_write'],
  pagetable: [undefined, 'pagetable_write'],
};

export class MemorySites {
  private readonly text: string;
  private readonly origins: Origins;
  private readonly profiled = new Map<string, ProfiledStatement[]>();
  /** The function that the statement is in, and its section. */
  private symbol = '';
  private home: Section | undefined;
  /** What a run found in this function, and how many statements of each form have come by. */
  private found: readonly ProfiledStatement[] = [];
  private readonly seen = new Map<string, number>();
  /** Rules for the line that the last line directive names, and for the last inline-assembly statement. */
  private lineRules: readonly AccessRule[] = [];
  private markerRules: readonly AccessRule[] = [];
  private marker = -1;
  private frames: boolean | undefined;

  /** Undefined if the policy has none. */
  static of(text: string, policy: Policy, readSource: ReadSource): MemorySites | undefined {
    const rules = policy.accesses.filter(({ domain }) => policy.domains.includes(domain));
    if (rules.length === 0 && policy.profile.length === 0) return undefined;
    return new MemorySites(text, new Origins(rules, readSource), policy.profile);
  }

  private constructor(text: string, origins: Origins, profile: readonly ProfiledStatement[]) {
    this.text = text;
    this.origins = origins;
    for (const statement of profile)
      this.profiled.set(statement.function, [...(this.profiled.get(statement.function) ?? []), statement]);
  }

  /** The label of a function, or of something else that has a name. */
  function(name: string, section: Section): void {
    this.symbol = name;
    this.home = section;
    this.found = this.profiled.get(name) ?? [];
    this.seen.clear();
  }

  /** `.file`, with its operands. */
  file(operands: string): void {
    this.origins.file(operands);
  }

  /** Whether `.loc` directives matter. */
  get watching(): boolean {
    return this.origins.watching;
  }

  /** `.loc`, with its operands: file and line first. */
  line(operands: string): void {
    const [file, line] = operands.split(/\s+/, 2);
    this.lineRules = this.origins.ofLine(Number(file), Number(line));
  }

  /** Whether a statement may be one. `inlineAsm`: where the inline assembly around it begins. */
  mayBe(inlineAsm: number | undefined): boolean {
    return this.found.length > 0 || this.rules(inlineAsm).length > 0;
  }

  /** What a statement does, if it is one. Each statement of a function is asked about once, in order. */
  read(
    word: string,
    operands: string,
    section: Section,
    inlineAsm: number | undefined,
  ): Operation | undefined {
    const access = readAccess(word, operands);
    const domain = this.foundHere(word, operands, section) ?? this.ruledHere(inlineAsm);
    if (access === undefined || domain === undefined || this.isFrame(access.base)) return undefined;
    const kind = ACCESS_KINDS[domain][access.writes ? 1 : 0];
    return kind && { ...access, kind };
  }

  /** A statement in a slot of our own is one of its function's too. */
  count(slot: string, section: Section): void {
    if (this.found.length === 0) return;
    const [, mnemonic, operands = ''] =
      /(?:^|[:;\s])(?:[cds]s\s+)?([a-z][a-z0-9]*)(?:\s+([^;]*))?;$/.exec(slot) ?? [];
    if (mnemonic !== undefined) this.foundHere(mnemonic, operands.trim(), section);
  }

  /** The rules that a statement's origin has. */
  private rules(inlineAsm: number | undefined): readonly AccessRule[] {
    if (inlineAsm === undefined) return this.lineRules;
    if (inlineAsm !== this.marker) {
      this.marker = inlineAsm;
      const start = this.text.lastIndexOf('\n', inlineAsm - 1) + 1;
      this.markerRules = this.origins.ofMarker(this.text.slice(start, inlineAsm));
    }
    return this.markerRules;
  }

  private ruledHere(inlineAsm: number | undefined): MemoryDomain | undefined {
    const name = this.symbol.replace(/\..*/, '');
    return this.rules(inlineAsm).find(({ within }) => within?.includes(name) ?? true)?.domain;
  }

  private foundHere(word: string, operands: string, section: Section): MemoryDomain | undefined {
    if (this.found.length === 0 || section !== this.home) return undefined;
    const form = normalStatement(word, operands);
    const ordinal = this.seen.get(form) ?? 0;
    this.seen.set(form, ordinal + 1);
    return this.found.find(({ statement, ordinal: wanted }) => statement === form && wanted === ordinal)
      ?.domain;
  }

  /** Whether a memory operand with this base is on the stack. */
  private isFrame(base: string): boolean {
    if (base === 'ebp') this.frames ??= /movl?\s+%esp,\s*%ebp/.test(this.text);
    return base === 'esp' || (base === 'ebp' && this.frames === true);
  }
}
