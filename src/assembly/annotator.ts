/**
 * The annotator: widens each sensitive instruction of a GNU-as source to a slot
 * and records it. Text in, text out; what is not annotated comes out byte for
 * byte, every addition stays on its line, and annotating the output again
 * changes nothing.
 */

import type { SensitiveMnemonic } from '../x86/sensitive.ts';
import { LONG_ONLY, SENSITIVE_MNEMONICS, SENSITIVE_REGISTERS } from '../x86/sensitive.ts';
import { ANNOUNCEMENT_BYTES, SITE_KINDS, type SiteKindName } from '../x86/site-kinds.ts';
import { readAccess } from './access.ts';
import { flagsLiveAfter } from './flags.ts';
import { type Operation, readOperation, readRawBytes, sensitiveMnemonic } from './operation.ts';
import { Origins, type ReadSource } from './origins.ts';
import type { AccessRule, MemoryDomain, Policy } from './policy.ts';
import { normalStatement, type ProfiledStatement } from './profile.ts';
import { isBlank, Scanner } from './scanner.ts';
import {
  chooseLabels,
  mnemonicMacroDefinition,
  RECORD_CLOSING,
  RECORD_OPENING,
  SITE_MACRO,
  type Site,
  type SlotLabels,
  siteMacroCall,
  siteMacroDefinition,
  slotClosing,
  slotOpening,
  slotOpeningRaw,
  widen,
} from './slot.ts';

/** Width of the code as the assembler starts: its `--32` or `--64`. */
export type CodeWidth = 32 | 64;

export interface Annotation {
  readonly text: string;
  /** Sites written into the text. A macro's body counts once, however often it is expanded. */
  readonly sites: number;
  /** What was left alone although it might hold sites, and why. */
  readonly notes: readonly { readonly line: number; readonly message: string }[];
}

/** A replacement in the source: the bytes from `start` to `end` become `text`. */
interface Edit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

interface Section {
  readonly executable: boolean;
  readonly absolute: boolean;
  readonly discarded: boolean;
}

/** What directives change, and what a macro's body must not change outside of it. */
interface State {
  width: 16 | 32 | 64;
  /** Not AT&T syntax. */
  foreign: boolean;
  section: Section;
  previous: Section;
  /** What `.pushsection` saved last. */
  pushed: Pushed | undefined;
}

interface Pushed {
  readonly section: Section;
  readonly previous: Section;
  readonly pushed: Pushed | undefined;
}

interface Prefixes {
  readonly start: number;
  readonly count: number;
  readonly segment: boolean;
}

const PREFIX_WORDS = new Set(
  'rep repe repz repne repnz lock data16 data32 addr16 addr32 cs ds es fs gs ss xacquire xrelease'.split(' '),
);
const SEGMENT_PREFIX = /^[cdefgs]s$/;

/** What the ways into the kernel are called in user code. */
const ENTRY_KINDS: Partial<Record<SiteKindName, SiteKindName>> = {
  int: 'entry_int80',
  sysenter: 'entry_sysenter',
  syscall: 'entry_syscall',
};

/** A label and its colon, which stand together in what compilers write. */
const LABEL = /^([\w.$]+):/;
/** Characters of a symbol that a rule file may name. */
const LONGEST_NAME = 256;

/** Sections whose flags the assembler knows without being told. */
const CODE_SECTION = /^\.(text|init|fini)(\.|$)|\.text(\.|$)/;

/** Fills up to a fixed stride: from here to an earlier label plus something. */
const STRIDE_FILL = /^(.*\S)\s*-\s*\.\s*,\s*1\s*(?:,\s*([^,]+))?$/s;

/**
 * Which words may concern the annotator, by their first three characters in any
 * case: it looks at every statement of a kernel, so most must be let go at once.
 */
class Heads {
  private readonly table = new Uint8Array(1 << 15);

  constructor(words: Iterable<string>) {
    for (const word of words) {
      // What follows a word of two characters is not known.
      const thirds = word.length > 2 ? [word.charCodeAt(2)] : [...Array(32).keys()];
      for (const third of thirds) this.table[Heads.index(word.charCodeAt(0), word.charCodeAt(1), third)] = 1;
    }
  }

  /** Whether a word that begins at this byte may be among them. */
  has(bytes: Uint8Array, at: number): boolean {
    return (
      this.table[Heads.index(bytes[at] as number, bytes[at + 1] as number, bytes[at + 2] as number)] === 1
    );
  }

  private static index(first: number, second: number, third: number): number {
    return ((first & 31) << 10) | ((second & 31) << 5) | (third & 31);
  }
}

const INSTRUCTION_HEADS = new Heads([...SENSITIVE_MNEMONICS.keys(), ...PREFIX_WORDS]);

const MOVES = ['mov', 'push', 'pop'] as const;

/** The kind of an access to memory, read or written; page tables may be read unseen. */
const ACCESS_KINDS: Readonly<Record<MemoryDomain, readonly [SiteKindName | undefined, SiteKindName]>> = {
  mmio: ['mmio_read', 'mmio_write'],
  pagetable: [undefined, 'pagetable_write'],
};

const PERCENT = 37;
const DOT = 46;
const COLON = 58;
const LETTER_C = 99;
const LETTER_F = 102;
const LETTER_L = 108;
const LETTER_O = 111;

/** The first two letters of sensitive registers, as one number. */
const SPECIAL_PAIRS = new Set(
  [...SENSITIVE_REGISTERS.keys()].map((name) => (name.charCodeAt(0) << 8) | name.charCodeAt(1)),
);

/** `readSource` gives the headers whose functions the policy's access rules name. */
export function annotate(
  text: string,
  policy: Policy,
  width: CodeWidth,
  readSource: ReadSource = () => undefined,
): Annotation {
  return new Annotator(text, policy, width, readSource).run();
}

class Annotator {
  private readonly text: string;
  private readonly policy: Policy;
  private readonly scanner: Scanner;
  private readonly edits: Edit[] = [];
  /** Edits that matter only if the file holds a site. */
  private readonly guards: Edit[] = [];
  private readonly notes: { offset: number; message: string }[] = [];
  private readonly macros = new Set<string>();
  private readonly passedOn = new Map<string, Site>();
  private readonly sectionFlags = new Map<string, string>();
  private readonly macroStack: State[] = [];
  private state: State;
  private off = false;
  private sites = 0;
  private usesSiteMacro = false;
  private pending: Prefixes | undefined;
  private chosenLabels: SlotLabels | undefined;
  /** Undefined if no access to memory is a site. */
  private readonly origins: Origins | undefined;
  private readonly profiled = new Map<string, ProfiledStatement[]>();
  /** The function that the statement is in, and its section. */
  private symbol = '';
  private home: Section;
  /** What a run found in this function, and how many statements of each form have come by. */
  private found: readonly ProfiledStatement[] = [];
  private seen = new Map<string, number>();
  /** Rules for the line that the last line directive names, and for the last inline-assembly statement. */
  private lineRules: readonly AccessRule[] = [];
  private markerRules: readonly AccessRule[] = [];
  private marker = -1;
  private frames: boolean | undefined;

  constructor(text: string, policy: Policy, width: CodeWidth, readSource: ReadSource) {
    this.text = text;
    this.policy = policy;
    this.scanner = new Scanner(text);
    const section = this.describeSection('.text', undefined);
    this.state = { width, foreign: false, section, previous: section, pushed: undefined };
    this.home = section;
    for (const statement of policy.profile)
      this.profiled.set(statement.function, [...(this.profiled.get(statement.function) ?? []), statement]);
    const rules = policy.accesses.filter(({ domain }) => policy.domains.includes(domain));
    if (rules.length > 0 || this.profiled.size > 0) this.origins = new Origins(rules, readSource);
  }

  run(): Annotation {
    const { scanner, text } = this;
    const { bytes } = scanner;
    while (scanner.next()) {
      if (scanner.labelled) {
        this.pending = undefined;
        if (this.origins !== undefined) this.label();
        if (this.skipOwnSlot()) continue;
        if (this.policy.announcements.size > 0) this.announce();
      }
      const { wordStart, wordEnd } = scanner;
      if (wordStart === wordEnd) {
        this.pending = undefined;
        continue;
      }
      if (bytes[wordStart] === DOT) {
        if (isLineDirective(bytes, wordStart)) {
          if (this.origins?.watching) this.line(this.origins);
        } else if (DIRECTIVE_HEADS.has(bytes, wordStart + 1)) this.directive();
        this.pending = undefined;
      } else if (scanner.quoted) {
        this.macroCallWithStrings();
      } else if (
        INSTRUCTION_HEADS.has(bytes, wordStart) ||
        (this.origins !== undefined && this.mayAccess())
      ) {
        this.instruction();
      } else {
        this.pending = undefined;
        if (this.macros.size > 0) this.macroCall();
      }
    }
    return { text: this.result(), sites: this.sites, notes: withLines(text, this.notes) };
  }

  private get labels(): SlotLabels {
    this.chosenLabels ??= chooseLabels(this.text);
    return this.chosenLabels;
  }

  /** Only 32- and 64-bit code in AT&T syntax is annotated, and none that is excluded or thrown away. */
  private get active(): boolean {
    const { state } = this;
    return !this.off && !state.foreign && state.width !== 16 && !state.section.discarded;
  }

  /** Text that was annotated before: on from the record's end. */
  private skipOwnSlot(): boolean {
    const { text, scanner } = this;
    const first = text.charCodeAt(scanner.lastLabel);
    if (first < 48 || first > 57) return false;
    const line = text.slice(scanner.lastLabel, scanner.lastLabel + LONGEST_SLOT);
    const [, stem] = /^(\d{4,})1:[^\n]/.exec(line) ?? [];
    if (stem === undefined) return false;
    const end = line.indexOf(`${stem}2:${RECORD_OPENING}`);
    if (end < 0) return false;
    if (this.found.length > 0) this.countOwn(line.slice(0, end));
    scanner.position = scanner.lastLabel + line.indexOf(RECORD_CLOSING, end) + RECORD_CLOSING.length;
    return true;
  }

  /** A function whose entry announces something: right behind its label, if that has not been done before. */
  private announce(): void {
    const { scanner, text, policy } = this;
    if (scanner.bytes[scanner.lastLabel] === DOT || !this.state.section.executable) return;
    const [label = '', name = ''] =
      LABEL.exec(text.slice(scanner.lastLabel, scanner.lastLabel + LONGEST_NAME)) ?? [];
    const kind = policy.announcements.get(name);
    if (kind === undefined || !policy.domains.includes('cpu') || !this.active) return;
    const { domain } = SITE_KINDS[kind];
    const widening = { count: 0, filler: 'cs' } as const;
    const site = { kind, domain, widening, flagsLive: false, absolute: false, long: this.state.width === 64 };
    const instruction = `.byte ${ANNOUNCEMENT_BYTES.join(',')}`;
    this.insert(
      scanner.lastLabel + label.length,
      `${slotOpening(this.labels, widening)}${instruction}${slotClosing(this.labels, site)};`,
    );
    this.sites++;
  }

  /** The statement in a slot of our own is one of its function's too. */
  private countOwn(slot: string): void {
    const [, mnemonic, operands = ''] =
      /(?:^|[:;\s])(?:[cds]s\s+)?([a-z][a-z0-9]*)(?:\s+([^;]*))?;$/.exec(slot) ?? [];
    if (mnemonic !== undefined) this.foundHere(mnemonic, operands.trim());
  }

  private instruction(): void {
    const { scanner, text } = this;
    let { wordStart, wordEnd } = scanner;
    const mayAccess = this.origins !== undefined && this.mayAccess();
    if (!mayAccess && isPlainMove(scanner)) {
      this.pending = undefined;
      return;
    }
    let prefixes = this.pending;
    this.pending = undefined;
    let word = text.slice(wordStart, wordEnd).toLowerCase();
    while (PREFIX_WORDS.has(word)) {
      prefixes = {
        start: prefixes?.start ?? wordStart,
        count: (prefixes?.count ?? 0) + 1,
        segment: (prefixes?.segment ?? false) || SEGMENT_PREFIX.test(word),
      };
      wordStart = wordEnd;
      while (wordStart < scanner.end && /\s/.test(text[wordStart] as string)) wordStart++;
      if (wordStart === scanner.end) {
        this.pending = prefixes;
        return;
      }
      wordEnd = wordStart;
      while (wordEnd < scanner.end && !/\s/.test(text[wordEnd] as string)) wordEnd++;
      word = text.slice(wordStart, wordEnd).toLowerCase();
    }
    // Anything else than a blank behind it makes it another word, or an error.
    const row =
      wordEnd === scanner.end || isBlank(scanner.bytes[wordEnd] as number)
        ? sensitiveMnemonic(word)
        : undefined;
    const operands = text.slice(wordEnd, scanner.end).trim();
    const operation =
      (row && !this.macros.has(word) ? readOperation(row, operands) : undefined) ??
      (mayAccess ? this.access(word, operands) : undefined);
    if (operation !== undefined) this.site(operation, prefixes ?? { start: wordStart, ...NO_PREFIXES });
    else if (this.macros.size > 0 && (row === undefined || this.macros.has(word))) this.macroCall();
  }

  /** A label of a function, or of something else that has a name. */
  private label(): void {
    const { scanner, text } = this;
    const name = /^[A-Za-z_][\w.$]*/.exec(text.slice(scanner.start, scanner.wordStart))?.[0];
    if (name === undefined || !this.state.section.executable) return;
    this.symbol = name;
    this.home = this.state.section;
    this.found = this.profiled.get(name) ?? [];
    this.seen.clear();
  }

  /** `.loc FILE LINE`. */
  private line(origins: Origins): void {
    const { scanner, text } = this;
    const [file, line] = text.slice(scanner.wordEnd, scanner.end).trim().split(/\s+/, 2);
    this.lineRules = origins.ofLine(Number(file), Number(line));
  }

  private fileNamed(operands: string): void {
    this.origins?.file(operands);
  }

  /** The rules that the current statement's origin has. */
  private rules(): readonly AccessRule[] {
    const { inlineAsm } = this.scanner;
    if (inlineAsm === undefined) return this.lineRules;
    if (inlineAsm !== this.marker) {
      this.marker = inlineAsm;
      const start = this.text.lastIndexOf('\n', inlineAsm - 1) + 1;
      this.markerRules = this.origins?.ofMarker(this.text.slice(start, inlineAsm)) ?? [];
    }
    return this.markerRules;
  }

  private mayAccess(): boolean {
    return this.found.length > 0 || this.rules().length > 0;
  }

  /** The site that a statement is as an access to memory, if its origin or the profile says so. */
  private access(word: string, operands: string): Operation | undefined {
    const access = readAccess(word, operands);
    const domain = this.foundHere(word, operands) ?? this.ruledHere();
    if (access === undefined || domain === undefined || this.isFrame(access.base)) return undefined;
    const kind = ACCESS_KINDS[domain][access.writes ? 1 : 0];
    return kind && { ...access, kind };
  }

  private ruledHere(): MemoryDomain | undefined {
    const name = this.symbol.replace(/\..*/, '');
    return this.rules().find(({ within }) => within?.includes(name) ?? true)?.domain;
  }

  private foundHere(word: string, operands: string): MemoryDomain | undefined {
    if (this.found.length === 0 || this.state.section !== this.home) return undefined;
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

  /** Makes the statement the scanner is at a site, together with the prefixes in front of it. */
  private site(operation: Operation, prefixes: Prefixes, raw = false): void {
    const { scanner } = this;
    const site = this.describe(operation, prefixes, false);
    if (site === undefined) return;
    const open = raw ? slotOpeningRaw : slotOpening;
    this.insert(prefixes.start, open(this.labels, site.widening));
    this.insert(scanner.end, slotClosing(this.labels, site));
    this.sites++;
  }

  /** The site an operation makes here; undefined where policy leaves it alone. */
  private describe(
    operation: Operation,
    prefixes: Pick<Prefixes, 'count' | 'segment'>,
    travels: boolean,
  ): Site | undefined {
    const { policy, state } = this;
    if (!this.active) return undefined;
    const userCode = policy.domains.includes('entry');
    const kind = userCode ? ENTRY_KINDS[operation.kind] : operation.kind;
    if (kind === undefined) return undefined;
    const { domain } = SITE_KINDS[kind];
    if (!policy.domains.includes(domain)) return undefined;
    const long = state.width === 64;
    if (!long && LONG_ONLY.has(operation.kind)) return undefined;
    const absolute = travels || policy.absolute || state.section.absolute;
    const widening = widen(operation, prefixes, absolute, long);
    const flagsLive = travels || flagsLiveAfter({ ...operation, kind }, this.scanner);
    return { kind, domain, widening, flagsLive, absolute, long };
  }

  /** Bare macro arguments that are mnemonics: a macro of that name will stand for them. */
  private macroCall(): void {
    const { scanner, text } = this;
    if (!this.macros.has(text.slice(scanner.wordStart, scanner.wordEnd).toLowerCase())) return;
    this.passOn(text.slice(scanner.wordEnd, scanner.end));
  }

  private passOn(operands: string): void {
    for (const token of operands.toLowerCase().split(/[\s,=]+/)) {
      const row = sensitiveMnemonic(token);
      if (row === undefined || row.form !== 'fixed' || this.macros.has(token)) continue;
      const site = this.describe(readOperation(row, '') as Operation, NO_PREFIXES, true);
      if (site !== undefined) this.passedOn.set(token, site);
    }
  }

  /** Macro arguments that are statements: each sensitive one becomes a call of the site macro. */
  private macroCallWithStrings(): void {
    const { scanner, text } = this;
    this.pending = undefined;
    const statement = text.slice(scanner.wordEnd, scanner.end);
    for (const match of statement.matchAll(/"((?:[^"\\]|\\[^"])*)"/g)) {
      this.instructionsInString(match[1] as string, scanner.wordEnd + match.index + 1);
    }
  }

  private instructionsInString(content: string, offset: number): void {
    const inner = new Scanner(content);
    let prefixed = false;
    while (inner.next()) {
      const word = content.slice(inner.wordStart, inner.wordEnd).toLowerCase();
      // A prefix belongs to the slot, and there is no way to put the slot's label in front of it from here.
      if (prefixed) {
        prefixed = false;
        continue;
      }
      prefixed = PREFIX_WORDS.has(word) && inner.end === inner.wordEnd;
      const row = sensitiveMnemonic(word);
      const operands = content.slice(inner.wordEnd, inner.end).trim();
      const operation = row
        ? readQuoted(row, operands)
        : word === '.byte'
          ? readRawBytes(operands)
          : undefined;
      const site = operation && !this.macros.has(word) && this.describe(operation, NO_PREFIXES, true);
      if (!site) continue;
      this.usesSiteMacro = true;
      this.sites++;
      const original = content.slice(inner.wordStart, inner.end);
      this.replace(offset + inner.wordStart, offset + inner.end, siteMacroCall(site, original));
    }
  }

  private directive(): void {
    const { scanner, text } = this;
    const name = text.slice(scanner.wordStart, scanner.wordEnd);
    Annotator.directives.get(name)?.(this, text.slice(scanner.wordEnd, scanner.end).trim());
  }

  /** What the directives that matter do, by name. */
  static readonly directives: ReadonlyMap<string, (a: Annotator, operands: string) => void> = new Map([
    ['.code16', (a) => a.setWidth(16)],
    ['.code16gcc', (a) => a.setWidth(16)],
    ['.code32', (a) => a.setWidth(32)],
    ['.code64', (a) => a.setWidth(64)],
    ['.intel_syntax', (a) => a.setReadable(false)],
    ['.att_syntax', (a, operands) => a.setReadable(operands !== 'noprefix')],
    ['.text', (a) => a.enter('.text')],
    ['.data', (a) => a.enter('.data')],
    ['.bss', (a) => a.enter('.bss')],
    ['.section', (a, operands) => a.enter(...sectionOperands(operands))],
    ['.pushsection', (a, operands) => a.push(...sectionOperands(operands))],
    ['.popsection', (a) => Object.assign(a.state, a.state.pushed)],
    ['.previous', ({ state }) => Object.assign(state, { section: state.previous, previous: state.section })],
    ['.macro', (a, operands) => a.beginMacro(operands)],
    ['.endm', (a) => a.endMacro()],
    ['.endmacro', (a) => a.endMacro()],
    ['.irp', (a, operands) => a.passOn(operands)],
    ['.previrt', (a, operands) => a.switch(operands)],
    ['.set', (a, operands) => a.switchedBefore(operands)],
    ['.byte', (a, operands) => a.bytes(operands)],
    ['.fill', (a, operands) => a.fill(operands)],
    ['.file', (a, operands) => a.fileNamed(operands)],
  ]);

  private setWidth(width: State['width']): void {
    this.state.width = width;
  }

  /** Whether the syntax that follows is the one this annotator reads. */
  private setReadable(readable: boolean): void {
    this.state.foreign = !readable;
    if (!readable) this.note('syntax other than AT&T with register prefixes is left alone');
  }

  private push(name: string, flags: string | undefined): void {
    const { section, previous, pushed } = this.state;
    this.state.pushed = { section, previous, pushed };
    this.enter(name, flags);
  }

  private beginMacro(operands: string): void {
    this.macroStack.push(this.state);
    this.state = { ...this.state };
    this.macros.add((/^[^\s,(]+/.exec(operands)?.[0] ?? '').toLowerCase());
  }

  private endMacro(): void {
    this.state = this.macroStack.pop() ?? this.state;
  }

  private bytes(operands: string): void {
    if (!this.state.section.executable) return;
    const operation = readRawBytes(operands);
    if (operation) this.site(operation, { start: this.scanner.wordStart, ...NO_PREFIXES }, true);
  }

  /** A slot that outgrows its stride must be an error; a negative `.fill` is only a warning. */
  private fill(operands: string): void {
    const { scanner } = this;
    const [, target, value] = STRIDE_FILL.exec(operands) ?? [];
    if (target === undefined) return;
    const replacement = `.org ${target}${value === undefined ? '' : `,${value}`}`;
    this.guards.push({ start: scanner.wordStart, end: scanner.end, text: replacement });
  }

  /** `.previrt off` and `.previrt on`: replaced by a form that the assembler knows too. */
  private switch(operand: string): void {
    const { scanner } = this;
    if (operand !== 'on' && operand !== 'off') return;
    this.off = operand === 'off';
    this.replace(scanner.wordStart, scanner.end, `.set ${SWITCH_SYMBOL},${this.off ? 0 : 1}`);
  }

  private switchedBefore(operands: string): void {
    if (operands.startsWith(SWITCH_SYMBOL)) this.off = operands === `${SWITCH_SYMBOL},0`;
  }

  private enter(name: string, flags?: string): void {
    const { state } = this;
    state.previous = state.section;
    state.section = this.describeSection(name, flags);
  }

  private describeSection(name: string, flags: string | undefined): Section {
    if (flags !== undefined) this.sectionFlags.set(name, flags);
    const known = this.sectionFlags.get(name);
    const among = (sections: readonly string[]) =>
      sections.some((section) => name === section || name.startsWith(`${section}.`));
    return {
      executable: known?.includes('x') ?? CODE_SECTION.test(name),
      absolute: among(this.policy.absoluteSections),
      discarded: among(this.policy.discardedSections),
    };
  }

  private insert(at: number, text: string): void {
    this.edits.push({ start: at, end: at, text });
  }

  private replace(start: number, end: number, text: string): void {
    this.edits.push({ start, end, text });
  }

  private note(message: string): void {
    this.notes.push({ offset: this.scanner.start, message });
  }

  private result(): string {
    const { text } = this;
    const definitions = this.definitions();
    const guards = this.sites > 0 || definitions !== '' ? this.guards : [];
    if (this.edits.length === 0 && guards.length === 0 && definitions === '') return text;
    // A stable sort: an insertion at the end of one statement stays in front of what follows.
    const edits =
      guards.length === 0 ? this.edits : [...this.edits, ...guards].sort((a, b) => a.start - b.start);
    const parts: string[] = [definitions];
    let copied = 0;
    for (const edit of edits) {
      parts.push(text.slice(copied, edit.start), edit.text);
      copied = edit.end;
    }
    parts.push(text.slice(copied));
    return parts.join('');
  }

  /** Macros the text now needs. A line marker at the top, which must begin its line, keeps the numbering right. */
  private definitions(): string {
    let definitions = '';
    const needsSiteMacro = this.usesSiteMacro || this.passedOn.size > 0;
    if (needsSiteMacro && !this.macros.has(SITE_MACRO)) definitions += siteMacroDefinition(this.labels);
    for (const [mnemonic, site] of this.passedOn) definitions += mnemonicMacroDefinition(mnemonic, site);
    return definitions !== '' && this.text.startsWith('#') ? `${definitions}\n` : definitions;
  }
}

/** `.loc`, of which the compiler's output with line information is full. */
const isLineDirective = (bytes: Uint8Array, at: number): boolean =>
  bytes[at + 1] === LETTER_L && bytes[at + 2] === LETTER_O && bytes[at + 3] === LETTER_C;

/** Turns offsets, which rise, into line numbers. */
function withLines(text: string, notes: readonly { offset: number; message: string }[]) {
  let line = 1;
  let at = 0;
  return notes.map(({ offset, message }) => {
    for (; at < offset; at++) if (text.charCodeAt(at) === 10) line++;
    return { line, message };
  });
}

/** Remembers `.previrt off` in annotated text; a local symbol, so the object file does not hold it. */
const SWITCH_SYMBOL = '.Lprevirt';

/** Characters of a slot's text and its record, generously. */
const LONGEST_SLOT = 1024;

const DIRECTIVE_HEADS = new Heads([...Annotator.directives.keys()].map((name) => name.slice(1)));

const NO_PREFIXES = { count: 0, segment: false } as const;

/** Name and flags of a section, quotes removed. */
function sectionOperands(operands: string): [string, string | undefined] {
  const [, quoted, bare, flags] =
    /^(?:"([^"]*)"|([^\s,]+))(?:\s*,\s*(?:\d+\s*,\s*)?"([^"]*)")?/.exec(operands) ?? [];
  return [quoted ?? bare ?? '', flags];
}

/** In a string that may be prose, operands have to look like operands. */
function readQuoted(row: SensitiveMnemonic, operands: string): Operation | undefined {
  const bare = row.form === 'fixed' || row.form === 'monitor' || row.form === 'ins' || row.form === 'outs';
  if (operands === '' ? !bare : !/^[$*%\\(.\w-][^\s,]*(\s*,\s*[^\s,]+)*$/.test(operands)) return undefined;
  return readOperation(row, operands);
}

/** A `mov`, `push` or `pop` of nothing sensitive, of which a third of all statements consists. */
function isPlainMove({ text, bytes, wordStart, wordEnd, end }: Scanner): boolean {
  const stem = MOVES.find((move) => text.startsWith(move, wordStart));
  if (stem === undefined || wordEnd - wordStart > stem.length + 1) return false;
  return bytes[wordStart + stem.length] !== LETTER_F && !namesSpecialRegister(bytes, wordEnd, end);
}

/** A segment, control or debug register is named, other than as a segment override. */
function namesSpecialRegister(bytes: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; at++) {
    if (bytes[at] !== PERCENT) continue;
    const pair = (((bytes[at + 1] as number) | 0x20) << 8) | (bytes[at + 2] as number) | 0x20;
    if (SPECIAL_PAIRS.has(pair) && bytes[at + 3] !== COLON) return true;
  }
  return false;
}
