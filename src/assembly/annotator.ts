/**
 * The annotator: widens each sensitive instruction of a GNU-as source to a slot
 * and records it. Text in, text out; what is not annotated comes out byte for
 * byte, every addition stays on its line, and annotating the output again
 * changes nothing.
 */

import { LONG_ONLY, SENSITIVE_MNEMONICS, type SensitiveMnemonic } from '../x86/sensitive.ts';
import { ANNOUNCEMENT_BYTES, SITE_KINDS, type SiteKindName } from '../x86/site-kinds.ts';
import { AssemblerState } from './assembler-state.ts';
import { Edits } from './edits.ts';
import { flagsLiveAfter } from './flags.ts';
import { Heads, isLineDirective, isPlainMove } from './heads.ts';
import { MemorySites } from './memory-sites.ts';
import { type Operation, readOperation, readRawBytes, sensitiveMnemonic } from './operation.ts';
import type { ReadSource } from './origins.ts';
import type { Policy } from './policy.ts';
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

/** Fills up to a fixed stride: from here to an earlier label plus something. */
const STRIDE_FILL = /^(.*\S)\s*-\s*\.\s*,\s*1\s*(?:,\s*([^,]+))?$/s;
const STRIDE_SKIP = /^([^,]*[^\s,])\s*-\s*\.\s*(?:,\s*([^,]+))?$/;

const DOT = 46;

const INSTRUCTION_HEADS = new Heads([...SENSITIVE_MNEMONICS.keys(), ...PREFIX_WORDS]);

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
  private readonly state: AssemblerState;
  /** Undefined if no access to memory is a site. */
  private readonly memory: MemorySites | undefined;
  private readonly edits = new Edits();
  private readonly notes: { offset: number; message: string }[] = [];
  private readonly macros = new Set<string>();
  private readonly passedOn = new Map<string, Site>();
  private off = false;
  private sites = 0;
  private usesSiteMacro = false;
  private pending: Prefixes | undefined;
  private chosenLabels: SlotLabels | undefined;

  constructor(text: string, policy: Policy, width: CodeWidth, readSource: ReadSource) {
    this.text = text;
    this.policy = policy;
    this.scanner = new Scanner(text);
    this.state = new AssemblerState(policy, width);
    this.memory = MemorySites.of(text, policy, readSource);
  }

  run(): Annotation {
    const { scanner, text } = this;
    const { bytes } = scanner;
    while (scanner.next()) {
      if (scanner.labelled) {
        this.pending = undefined;
        if (this.memory !== undefined) this.label(this.memory);
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
          if (this.memory?.watching) this.memory.line(this.operands(wordEnd));
        } else if (DIRECTIVE_HEADS.has(bytes, wordStart + 1)) this.directive();
        this.pending = undefined;
      } else if (scanner.quoted) {
        this.macroCallWithStrings();
      } else if (INSTRUCTION_HEADS.has(bytes, wordStart) || this.memory?.mayBe(scanner.inlineAsm)) {
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

  private get active(): boolean {
    return !this.off && this.state.readable;
  }

  /** A function, or something else that has a name. */
  private label(memory: MemorySites): void {
    const { scanner, text, state } = this;
    const name = /^[A-Za-z_][\w.$]*/.exec(text.slice(scanner.start, scanner.wordStart))?.[0];
    if (name !== undefined && state.section.executable) memory.function(name, state.section);
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
    this.memory?.count(line.slice(0, end), this.state.section);
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
    this.edits.insert(
      scanner.lastLabel + label.length,
      `${slotOpening(this.labels, widening)}${instruction}${slotClosing(this.labels, site)};`,
    );
    this.sites++;
  }

  private instruction(): void {
    const { scanner, text, memory } = this;
    let { wordStart, wordEnd } = scanner;
    const mayAccess = memory?.mayBe(scanner.inlineAsm) ?? false;
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
      wordStart = scanner.endOfGap(wordEnd);
      if (wordStart >= scanner.end) {
        this.pending = prefixes;
        return;
      }
      wordEnd = wordStart;
      while (wordEnd < scanner.end && !/\s/.test(text[wordEnd] as string)) wordEnd++;
      word = text.slice(wordStart, wordEnd).toLowerCase();
    }
    const operands = this.operands(wordEnd);
    // Anything else than a blank behind it makes it another word, or an error; `=` a symbol.
    const row =
      (wordEnd === scanner.end || isBlank(scanner.bytes[wordEnd] as number)) && operands[0] !== '='
        ? sensitiveMnemonic(word)
        : undefined;
    const operation =
      (row && !this.macros.has(word) ? readOperation(row, operands) : undefined) ??
      (mayAccess ? memory?.read(word, operands, this.state.section, scanner.inlineAsm) : undefined);
    if (operation !== undefined) this.site(operation, prefixes ?? { start: wordStart, ...NO_PREFIXES });
    else if (this.macros.size > 0 && (row === undefined || this.macros.has(word))) this.macroCall();
  }

  /** Makes the statement the scanner is at a site, together with the prefixes in front of it. */
  private site(operation: Operation, prefixes: Prefixes, raw = false): void {
    const { scanner, text } = this;
    const site = this.describe(operation, prefixes, false);
    if (site === undefined) return;
    // A statement takes one segment prefix, and with one no comment right behind its mnemonic.
    const alone = prefixes.segment || text.slice(prefixes.start, scanner.end).includes('/*');
    const open = raw || alone ? slotOpeningRaw : slotOpening;
    this.edits.insert(prefixes.start, open(this.labels, site.widening));
    this.edits.insert(scanner.end, slotClosing(this.labels, site));
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
    for (const token of operands.toLowerCase().split(/[\s,="]+/)) {
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
      this.edits.replace(offset + inner.wordStart, offset + inner.end, siteMacroCall(site, original));
    }
  }

  private directive(): void {
    const { scanner, text } = this;
    const name = text.slice(scanner.wordStart, scanner.wordEnd).toLowerCase();
    Annotator.directives.get(name)?.(this, this.operands(scanner.wordEnd));
  }

  /** The rest of the statement behind a word of it, without comments. */
  private operands(wordEnd: number): string {
    const rest = this.text.slice(wordEnd, this.scanner.end);
    return (rest.includes('/*') ? rest.replace(/\/\*[\s\S]*?\*\//g, ' ') : rest).trim();
  }

  /** What the directives that matter do, by name. */
  static readonly directives: ReadonlyMap<string, (a: Annotator, operands: string) => void> = new Map([
    ['.code16', ({ state }) => state.setWidth(16)],
    ['.code16gcc', ({ state }) => state.setWidth(16)],
    ['.code32', ({ state }) => state.setWidth(32)],
    ['.code64', ({ state }) => state.setWidth(64)],
    ['.intel_syntax', (a) => a.setReadable(false)],
    ['.att_syntax', (a, operands) => a.setReadable(operands !== 'noprefix')],
    ['.text', ({ state }) => state.enter('.text')],
    ['.data', ({ state }) => state.enter('.data')],
    ['.bss', ({ state }) => state.enter('.bss')],
    ['.section', ({ state }, operands) => state.enter(...sectionOperands(operands))],
    ['.pushsection', ({ state }, operands) => state.push(...sectionOperands(operands))],
    ['.popsection', ({ state }) => state.pop()],
    ['.previous', ({ state }) => state.swap()],
    ['.macro', (a, operands) => a.beginMacro(operands)],
    ['.endm', ({ state }) => state.endMacro()],
    ['.endmacro', ({ state }) => state.endMacro()],
    ['.irp', (a, operands) => a.passOn(operands)],
    ['.previrt', (a, operands) => a.switch(operands)],
    ['.set', (a, operands) => a.switchedBefore(operands)],
    ['.byte', (a, operands) => a.bytes(operands)],
    ['.fill', (a, operands) => a.fill(STRIDE_FILL.exec(operands))],
    ['.skip', (a, operands) => a.fill(STRIDE_SKIP.exec(operands))],
    ['.space', (a, operands) => a.fill(STRIDE_SKIP.exec(operands))],
    ['.file', ({ memory }, operands) => memory?.file(operands)],
  ]);

  /** Whether the syntax that follows is the one this annotator reads. */
  private setReadable(readable: boolean): void {
    this.state.setForeign(!readable);
    if (!readable) this.note('syntax other than AT&T with register prefixes is left alone');
  }

  private bytes(operands: string): void {
    if (!this.state.section.executable) return;
    const operation = readRawBytes(operands);
    if (operation) this.site(operation, { start: this.scanner.wordStart, ...NO_PREFIXES }, true);
  }

  /** A slot that outgrows its stride must be an error; a negative `.fill` is only a warning. */
  private fill(stride: RegExpExecArray | null): void {
    const { scanner } = this;
    const [, target, value] = stride ?? [];
    if (target === undefined) return;
    const replacement = `.org ${target}${value === undefined ? '' : `,${value}`}`;
    this.edits.guard(scanner.wordStart, scanner.end, replacement);
  }

  /** `.previrt off` and `.previrt on`: replaced by a form that the assembler knows too. */
  private switch(operand: string): void {
    const { scanner } = this;
    if (operand !== 'on' && operand !== 'off') return;
    this.off = operand === 'off';
    this.edits.replace(scanner.wordStart, scanner.end, `.set ${SWITCH_SYMBOL},${this.off ? 0 : 1}`);
  }

  private switchedBefore(operands: string): void {
    if (operands.startsWith(SWITCH_SYMBOL)) this.off = operands === `${SWITCH_SYMBOL},0`;
  }

  private beginMacro(operands: string): void {
    this.state.beginMacro();
    this.macros.add((/^[^\s,(]+/.exec(operands)?.[0] ?? '').toLowerCase());
    this.passOn(operands);
  }

  private note(message: string): void {
    this.notes.push({ offset: this.scanner.start, message });
  }

  private result(): string {
    const definitions = this.definitions();
    return definitions + this.edits.apply(this.text, this.sites > 0 || definitions !== '');
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
  if (row.form === 'port' && !/^[$%(\\]/.test(operands)) return undefined;
  if (operands === '' ? !bare : !/^[$*%\\(.\w-][^\s,]*(\s*,\s*[^\s,]+)*$/.test(operands)) return undefined;
  return readOperation(row, operands);
}
