/**
 * The annotator: widens each sensitive instruction of a GNU-as source to a slot
 * and records it. Text in, text out; what is not annotated comes out byte for
 * byte, every addition stays on its line, and annotating the output again
 * changes nothing.
 */

import type { SensitiveMnemonic } from '../x86/sensitive.ts';
import { SENSITIVE_MNEMONICS } from '../x86/sensitive.ts';
import type { SiteKindName } from '../x86/site-kinds.ts';
import { SITE_KINDS } from '../x86/site-kinds.ts';
import { flagsLiveAfter } from './flags.ts';
import { type Operation, readOperation, readRawBytes, sensitiveMnemonic } from './operation.ts';
import type { Policy } from './policy.ts';
import { Scanner } from './scanner.ts';
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
  intel: boolean;
  section: Section;
  previous: Section;
  stack: readonly { readonly section: Section; readonly previous: Section }[];
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

const CODE_WIDTHS: Readonly<Record<string, 16 | 32 | 64>> = {
  '.code16': 16,
  '.code16gcc': 16,
  '.code32': 32,
  '.code64': 64,
};

/** Sections whose flags the assembler knows without being told. */
const CODE_SECTION = /^\.(text|init|fini)(\.|$)|\.text(\.|$)/;

/** Fills up to a fixed stride: from here to an earlier label plus something. */
const STRIDE_FILL = /^(.*\S)\s*-\s*\.\s*,\s*1\s*(?:,\s*([^,]+))?$/s;

/** By the first two characters of a word: a mnemonic of the table, or a prefix, begins like this. */
const CANDIDATE = new Uint8Array(1 << 16);
for (const word of [...SENSITIVE_MNEMONICS.keys(), ...PREFIX_WORDS]) {
  for (const head of [word, word.toUpperCase(), word[0]?.toUpperCase() + word.slice(1)]) {
    CANDIDATE[(head.charCodeAt(0) << 8) | head.charCodeAt(1)] = 1;
  }
}

export function annotate(text: string, policy: Policy, width: CodeWidth): Annotation {
  return new Annotator(text, policy, width).run();
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

  constructor(text: string, policy: Policy, width: CodeWidth) {
    this.text = text;
    this.policy = policy;
    this.scanner = new Scanner(text);
    const section = this.describeSection('.text', undefined);
    this.state = { width, intel: false, section, previous: section, stack: [] };
  }

  run(): Annotation {
    const { scanner, text } = this;
    while (scanner.next()) {
      if (scanner.labelled) {
        this.pending = undefined;
        if (this.skipOwnSlot()) continue;
      }
      const { wordStart, wordEnd } = scanner;
      if (wordStart === wordEnd) continue;
      const first = text.charCodeAt(wordStart);
      if (first === 46 /* . */) {
        this.directive();
        this.pending = undefined;
      } else if (scanner.quoted) {
        this.macroCallWithStrings();
      } else if (CANDIDATE[(first << 8) | text.charCodeAt(wordStart + 1)] === 1) {
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
    return !this.off && !state.intel && state.width !== 16 && !state.section.discarded;
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
    scanner.position = scanner.lastLabel + line.indexOf(RECORD_CLOSING, end) + RECORD_CLOSING.length;
    return true;
  }

  private instruction(): void {
    const { scanner, text } = this;
    let { wordStart, wordEnd } = scanner;
    let prefixes = this.pending;
    this.pending = undefined;
    let word = text.slice(wordStart, wordEnd);
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
      word = text.slice(wordStart, wordEnd);
    }
    const row = sensitiveMnemonic(word);
    if (row === undefined || this.macros.has(word.toLowerCase())) {
      if (this.macros.size > 0) this.macroCall();
      return;
    }
    if (row.form === 'mov' || row.form === 'push' || row.form === 'pop') {
      if (!namesSpecialRegister(text, wordEnd, scanner.end)) return;
    }
    const operation = readOperation(row, text.slice(wordEnd, scanner.end).trim());
    if (operation !== undefined)
      this.site(operation, prefixes ?? { start: wordStart, count: 0, segment: false });
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
    const absolute = travels || policy.absolute || state.section.absolute;
    const widening = widen(operation, prefixes, absolute, long);
    const flagsLive = travels || flagsLiveAfter(kind, new Scanner(this.text, this.scanner.position));
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
    while (inner.next()) {
      const word = content.slice(inner.wordStart, inner.wordEnd);
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
    const { scanner, text, state } = this;
    const name = text.slice(scanner.wordStart, scanner.wordEnd);
    const handler = DIRECTIVES.get(name);
    if (handler === undefined) return;
    const operands = text.slice(scanner.wordEnd, scanner.end).trim();
    switch (handler) {
      case 'width':
        state.width = CODE_WIDTHS[name] as 16 | 32 | 64;
        break;
      case 'intel':
        state.intel = true;
        this.note('Intel syntax is left alone');
        break;
      case 'att':
        state.intel = false;
        break;
      case 'section':
        this.enter(name === '.section' ? sectionOperands(operands) : [name, undefined]);
        break;
      case 'push':
        state.stack = [...state.stack, { section: state.section, previous: state.previous }];
        this.enter(sectionOperands(operands));
        break;
      case 'pop': {
        const saved = state.stack.at(-1);
        if (saved === undefined) break;
        Object.assign(state, saved, { stack: state.stack.slice(0, -1) });
        break;
      }
      case 'previous':
        Object.assign(state, { section: state.previous, previous: state.section });
        break;
      case 'macro':
        this.macroStack.push(this.state);
        this.state = { ...state };
        this.macros.add((/^[^\s,(]+/.exec(operands)?.[0] ?? '').toLowerCase());
        break;
      case 'endm':
        this.state = this.macroStack.pop() ?? this.state;
        break;
      case 'irp':
        this.passOn(operands);
        break;
      case 'previrt':
        this.switch(operands);
        break;
      case 'set':
        if (operands.startsWith(SWITCH_SYMBOL)) this.off = operands === `${SWITCH_SYMBOL},0`;
        break;
      case 'byte': {
        const operation = state.section.executable ? readRawBytes(operands) : undefined;
        if (operation) this.site(operation, { start: scanner.wordStart, count: 0, segment: false }, true);
        break;
      }
      case 'fill': {
        const [, target, value] = STRIDE_FILL.exec(operands) ?? [];
        if (target === undefined) break;
        // A slot that outgrows its stride must be an error; a negative `.fill` is only a warning.
        const replacement = `.org ${target}${value === undefined ? '' : `,${value}`}`;
        this.guards.push({ start: scanner.wordStart, end: scanner.end, text: replacement });
        break;
      }
    }
  }

  /** `.previrt off` and `.previrt on`: replaced by a form that the assembler knows too. */
  private switch(operand: string): void {
    const { scanner } = this;
    if (operand !== 'on' && operand !== 'off') return;
    this.off = operand === 'off';
    this.replace(scanner.wordStart, scanner.end, `.set ${SWITCH_SYMBOL},${this.off ? 0 : 1}`);
  }

  private enter([name, flags]: readonly [string, string | undefined]): void {
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

const NO_PREFIXES = { count: 0, segment: false } as const;

const DIRECTIVES: ReadonlyMap<
  string,
  | 'width'
  | 'intel'
  | 'att'
  | 'section'
  | 'push'
  | 'pop'
  | 'previous'
  | 'macro'
  | 'endm'
  | 'irp'
  | 'previrt'
  | 'set'
  | 'byte'
  | 'fill'
> = new Map([
  ...Object.keys(CODE_WIDTHS).map((name) => [name, 'width'] as const),
  ['.intel_syntax', 'intel'],
  ['.att_syntax', 'att'],
  ['.section', 'section'],
  ['.text', 'section'],
  ['.data', 'section'],
  ['.bss', 'section'],
  ['.pushsection', 'push'],
  ['.popsection', 'pop'],
  ['.previous', 'previous'],
  ['.macro', 'macro'],
  ['.endm', 'endm'],
  ['.endmacro', 'endm'],
  ['.irp', 'irp'],
  ['.previrt', 'previrt'],
  ['.set', 'set'],
  ['.byte', 'byte'],
  ['.fill', 'fill'],
]);

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

/** A segment, control or debug register is named somewhere, other than as a segment override. */
function namesSpecialRegister(text: string, from: number, to: number): boolean {
  for (let at = from; at < to; at++) {
    if (text.charCodeAt(at) !== 37 /* % */) continue;
    const first = text.charCodeAt(at + 1) | 0x20;
    const second = text.charCodeAt(at + 2) | 0x20;
    // %[cdefgs]s
    if (second === 115 && ((first >= 99 && first <= 103) || first === 115)) {
      if (text.charCodeAt(at + 3) !== 58 /* : */) return true;
    }
    // %cr %db %dr
    if ((first === 99 && second === 114) || (first === 100 && (second === 98 || second === 114))) return true;
  }
  return false;
}
