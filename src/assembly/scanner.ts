/**
 * Finds the statements of a GNU-as source for x86 without changing a byte.
 *
 * The scanner is a cursor: `next()` moves it to the next statement and its
 * fields then hold offsets into the text. It allocates nothing, because most of
 * a compiler's output is looked at once and passed on.
 *
 * Syntax, as the assembler's own preprocessor sees it on x86 ELF targets:
 * statements end at a newline or `;`; `#` starts a comment anywhere, `/` where
 * a statement could begin; block comments nest not and may span lines; strings take
 * backslash escapes and may span lines; `'c` is a character constant, with or
 * without a closing quote. Anything may be preceded by labels.
 */

const TAB = 9;
const NEWLINE = 10;
const CARRIAGE_RETURN = 13;
const SPACE = 32;
const QUOTE = 34;
const HASH = 35;
const APOSTROPHE = 39;
const STAR = 42;
const SLASH = 47;
const COLON = 58;
const SEMICOLON = 59;
const DIGIT_ONE = 49;
const LETTER_A = 65;
const LETTER_N = 78;
const BACKSLASH = 92;

/** Classes of characters, by code: 1 may stand in a word (name, mnemonic, label, macro argument). */
const WORD = new Uint8Array(256);
/** 1: the scanner has to look at this character inside a statement. */
const STOP = new Uint8Array(256);
for (const c of 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.$\\@?()')
  WORD[c.charCodeAt(0)] = 1;
for (let code = 128; code < 256; code++) WORD[code] = 1;
for (const c of '\n;"#\'/') STOP[c.charCodeAt(0)] = 1;

export const isBlank = (code: number) => code === SPACE || code === TAB || code === CARRIAGE_RETURN;

export class Scanner {
  readonly text: string;
  /** The characters' codes; at least a few zeros follow the last. */
  readonly bytes: Uint8Array;
  /** Where the statement begins: its first label, or its first word. */
  start = 0;
  /** The first word after the labels: `wordStart === wordEnd` for a statement of labels only. */
  wordStart = 0;
  wordEnd = 0;
  /** The end of the statement, without blanks, comment and terminator. */
  end = 0;
  /** There is at least one label in front of the word. */
  labelled = false;
  /** Where the label next to the word begins, if there is one. */
  lastLabel = 0;
  /** The statement holds a string. */
  quoted = false;
  /**
   * Where the compiler's inline assembly statement around this statement begins;
   * undefined outside of one, and in assembly that stands at file level.
   */
  inlineAsm: number | undefined = undefined;
  /** Where the search for the next statement begins. */
  position: number;
  /** In the compiler's `#APP` block. */
  private app = false;

  /** Text is taken as one character a byte (latin1), so that any encoding passes through. */
  constructor(text: string, bytes: Uint8Array = toBytes(text)) {
    this.text = text;
    this.bytes = bytes;
    this.position = 0;
  }

  /** Another cursor on the same text: behind the same statement, or where a line ends. */
  fork(lineEnd?: number): Scanner {
    const fork = new Scanner(this.text, this.bytes);
    fork.position = lineEnd ?? this.position;
    return fork;
  }

  /** Moves to the next statement; false at the end of the text. */
  next(): boolean {
    const { bytes } = this;
    const { length } = this.text;
    let at = this.position;
    for (;;) {
      const code = byteAt(bytes, at);
      if (isBlank(code) || code === SEMICOLON || code === NEWLINE) {
        at++;
        continue;
      }
      if (code === HASH) {
        const end = endOfLine(bytes, at);
        this.noteMarker(at, end);
        at = end;
        continue;
      }
      if (code === SLASH && byteAt(bytes, at + 1) === STAR) {
        at = endOfBlockComment(this.text, at);
        continue;
      }
      if (code === SLASH) {
        at = endOfLine(bytes, at);
        continue;
      }
      if (at >= length) {
        this.position = length;
        return false;
      }
      break;
    }
    this.start = at;
    this.labelled = false;
    at = this.findWord(at);
    this.wordEnd = at;
    this.findEnd(at);
    return true;
  }

  /**
   * The compiler puts its inline assembly between `#APP` and `#NO_APP`, and each
   * statement in there between `# LINE "FILE" 1` and `# 0 "" 2`.
   */
  private noteMarker(from: number, end: number): void {
    const { text, bytes } = this;
    const next = bytes[from + 1];
    if (next === SPACE) {
      const flag = bytes[end - 1];
      if (this.app && bytes[end - 2] === SPACE && bytes[end - 3] === QUOTE) {
        this.inlineAsm = flag === DIGIT_ONE ? end : undefined;
      }
    } else if (next === LETTER_A || next === LETTER_N) {
      const marker = text.slice(from, Math.min(end, from + 8));
      if (marker === '#APP') this.app = true;
      else if (marker === '#NO_APP') this.app = false;
      else return;
      this.inlineAsm = undefined;
    }
  }

  /** Passes the labels; sets `wordStart` and returns the end of the word. */
  private findWord(from: number): number {
    const { bytes } = this;
    let at = from;
    for (;;) {
      this.wordStart = at;
      if (byteAt(bytes, at) === QUOTE) {
        // A quoted name; only a label if a colon follows.
        const close = endOfString(bytes, at);
        if (byteAt(bytes, close) !== COLON) return at;
        at = close;
      } else {
        while (WORD[byteAt(bytes, at)] === 1) at++;
        if (at === this.wordStart) return at;
      }
      const wordEnd = at;
      let code = byteAt(bytes, at);
      while (code === SPACE || code === TAB) code = byteAt(bytes, ++at);
      if (code !== COLON) return wordEnd;
      this.labelled = true;
      this.lastLabel = this.wordStart;
      at = this.endOfGap(at + 1);
    }
  }

  /** The offset of what follows blanks and block comments. */
  endOfGap(from: number): number {
    const { text, bytes } = this;
    let at = nextNonBlank(bytes, from);
    while (byteAt(bytes, at) === SLASH && byteAt(bytes, at + 1) === STAR)
      at = nextNonBlank(bytes, endOfBlockComment(text, at));
    return at;
  }

  /** From the end of the first word to the end of the statement. */
  private findEnd(from: number): void {
    const { bytes } = this;
    const { length } = this.text;
    let at = from;
    let end = -1;
    this.quoted = false;
    for (;;) {
      let code = byteAt(bytes, at);
      while (STOP[code] !== 1 && at < length) code = byteAt(bytes, ++at);
      if (at >= length) break;
      if (code === NEWLINE || code === SEMICOLON) break;
      // A slash here comes right behind a label.
      if (code === HASH || (code === SLASH && at === this.wordStart)) {
        end = at;
        at = endOfLine(bytes, at);
        break;
      }
      if (code === QUOTE) {
        this.quoted = true;
        at = endOfString(bytes, at);
      } else if (code === APOSTROPHE) {
        at = endOfCharacter(bytes, at);
      } else if (byteAt(bytes, at + 1) === STAR) {
        const close = endOfBlockComment(this.text, at);
        const rest = nextNonBlank(bytes, close);
        const following = byteAt(bytes, rest);
        if (rest >= length || following === NEWLINE || following === SEMICOLON || following === HASH) {
          end = at;
        }
        at = close;
        if (end >= 0) break;
      } else {
        at++;
      }
    }
    this.position = at;
    if (end < 0) end = at;
    while (end > this.wordEnd && isBlank(byteAt(bytes, end - 1))) end--;
    this.end = end;
  }
}

/**
 * The characters as bytes, for there is nothing faster to look at one by one,
 * and zeros behind them, so that looking ahead needs no check.
 */
function toBytes(text: string): Uint8Array {
  const bytes = Buffer.alloc(text.length + LOOK_AHEAD);
  bytes.write(text, 'latin1');
  return bytes;
}

const LOOK_AHEAD = 4;

const byteAt = (bytes: Uint8Array, at: number): number => bytes[at] as number;

function endOfLine(bytes: Uint8Array, from: number): number {
  const newline = bytes.indexOf(NEWLINE, from);
  return newline < 0 ? bytes.length - LOOK_AHEAD : newline;
}

function endOfBlockComment(text: string, from: number): number {
  const close = text.indexOf('*/', from + 2);
  return close < 0 ? text.length : close + 2;
}

function nextNonBlank(bytes: Uint8Array, from: number): number {
  let at = from;
  while (isBlank(byteAt(bytes, at))) at++;
  return at;
}

/** The offset after the closing quote of the string that opens at `from`. */
function endOfString(bytes: Uint8Array, from: number): number {
  const length = bytes.length - LOOK_AHEAD;
  let at = from + 1;
  while (at < length) {
    const code = byteAt(bytes, at);
    if (code === QUOTE) return at + 1;
    at += code === BACKSLASH ? 2 : 1;
  }
  return length;
}

/** The offset after the character constant that opens at `from`. */
function endOfCharacter(bytes: Uint8Array, from: number): number {
  let at = from + 1;
  if (byteAt(bytes, at) === BACKSLASH) at++;
  if (byteAt(bytes, at) === NEWLINE || at >= bytes.length - LOOK_AHEAD) return at;
  at++;
  return byteAt(bytes, at) === APOSTROPHE ? at + 1 : at;
}
