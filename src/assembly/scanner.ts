/**
 * Finds the statements of a GNU-as source for x86 without changing a byte.
 *
 * The scanner is a cursor: `next()` moves it to the next statement and its
 * fields then hold offsets into the text. It allocates nothing, because most of
 * a compiler's output is looked at once and passed on.
 *
 * Syntax, as the assembler's own preprocessor sees it on x86 ELF targets:
 * statements end at a newline or `;`; `#` starts a comment anywhere, `/` at the
 * beginning of a line; block comments nest not and may span lines; strings take
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
const BACKSLASH = 92;

/** Classes of characters, by code: 1 may stand in a word (name, mnemonic, label, macro argument). */
const WORD = new Uint8Array(256);
/** 1: the scanner has to look at this character inside a statement. */
const STOP = new Uint8Array(256);
for (const c of 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.$\\@?()')
  WORD[c.charCodeAt(0)] = 1;
for (let code = 128; code < 256; code++) WORD[code] = 1;
for (const c of '\n;"#\'/') STOP[c.charCodeAt(0)] = 1;

const isBlank = (code: number) => code === SPACE || code === TAB || code === CARRIAGE_RETURN;

export class Scanner {
  readonly text: string;
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
  /** Where the search for the next statement begins. */
  position: number;
  /** No newline since the last statement. */
  private midLine = false;

  /** Text is taken as one character a byte (latin1), so that any encoding passes through. */
  constructor(text: string, position = 0) {
    this.text = text;
    this.position = position;
  }

  /** Moves to the next statement; false at the end of the text. */
  next(): boolean {
    const { text } = this;
    const { length } = text;
    let at = this.position;
    for (;;) {
      const code = text.charCodeAt(at);
      if (isBlank(code) || code === SEMICOLON) {
        at++;
        continue;
      }
      if (code === NEWLINE) {
        this.midLine = false;
        at++;
        continue;
      }
      if (code === HASH) {
        at = endOfLine(text, at);
        continue;
      }
      if (code === SLASH && text.charCodeAt(at + 1) === STAR) {
        at = endOfBlockComment(text, at);
        continue;
      }
      if (code === SLASH && !this.midLine) {
        at = endOfLine(text, at);
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

  /** Passes the labels; sets `wordStart` and returns the end of the word. */
  private findWord(from: number): number {
    const { text } = this;
    let at = from;
    for (;;) {
      this.wordStart = at;
      if (text.charCodeAt(at) === QUOTE) {
        // A quoted name; only a label if a colon follows.
        const close = endOfString(text, at);
        if (text.charCodeAt(close) !== COLON) return at;
        at = close;
      } else {
        while (WORD[text.charCodeAt(at)] === 1) at++;
        if (at === this.wordStart) return at;
      }
      const wordEnd = at;
      let code = text.charCodeAt(at);
      while (code === SPACE || code === TAB) code = text.charCodeAt(++at);
      if (code !== COLON) return wordEnd;
      this.labelled = true;
      this.lastLabel = this.wordStart;
      code = text.charCodeAt(++at);
      while (code === SPACE || code === TAB) code = text.charCodeAt(++at);
    }
  }

  /** From the end of the first word to the end of the statement. */
  private findEnd(from: number): void {
    const { text } = this;
    const { length } = text;
    let at = from;
    let end = -1;
    this.quoted = false;
    for (;;) {
      let code = text.charCodeAt(at);
      while (STOP[code] !== 1 && at < length) code = text.charCodeAt(++at);
      if (at >= length) break;
      if (code === NEWLINE) {
        this.midLine = false;
        break;
      }
      if (code === SEMICOLON) {
        this.midLine = true;
        break;
      }
      if (code === HASH) {
        end = at;
        at = endOfLine(text, at);
        this.midLine = false;
        break;
      }
      if (code === QUOTE) {
        this.quoted = true;
        at = endOfString(text, at);
      } else if (code === APOSTROPHE) {
        at = endOfCharacter(text, at);
      } else if (text.charCodeAt(at + 1) === STAR) {
        const close = endOfBlockComment(text, at);
        const rest = nextNonBlank(text, close);
        const following = text.charCodeAt(rest);
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
    while (end > this.wordEnd && isBlank(text.charCodeAt(end - 1))) end--;
    this.end = end;
  }
}

function endOfLine(text: string, from: number): number {
  const newline = text.indexOf('\n', from);
  return newline < 0 ? text.length : newline;
}

function endOfBlockComment(text: string, from: number): number {
  const close = text.indexOf('*/', from + 2);
  return close < 0 ? text.length : close + 2;
}

function nextNonBlank(text: string, from: number): number {
  let at = from;
  while (isBlank(text.charCodeAt(at))) at++;
  return at;
}

/** The offset after the closing quote of the string that opens at `from`. */
function endOfString(text: string, from: number): number {
  const { length } = text;
  let at = from + 1;
  while (at < length) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) return at + 1;
    at += code === BACKSLASH ? 2 : 1;
  }
  return length;
}

/** The offset after the character constant that opens at `from`. */
function endOfCharacter(text: string, from: number): number {
  let at = from + 1;
  if (text.charCodeAt(at) === BACKSLASH) at++;
  if (text.charCodeAt(at) === NEWLINE || at >= text.length) return at;
  at++;
  return text.charCodeAt(at) === APOSTROPHE ? at + 1 : at;
}
