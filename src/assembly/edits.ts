/** Replacements in a text, collected from its beginning to its end and made all at once. */

/** The bytes from `start` to `end` become `text`. */
interface Edit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

export class Edits {
  private readonly edits: Edit[] = [];
  /** Those that matter only if there are others. */
  private readonly guards: Edit[] = [];

  insert(at: number, text: string): void {
    this.replace(at, at, text);
  }

  replace(start: number, end: number, text: string): void {
    this.edits.push({ start, end, text });
  }

  guard(start: number, end: number, text: string): void {
    this.guards.push({ start, end, text });
  }

  /** The text as it is to be. `guarded`: the guards are made too. */
  apply(text: string, guarded: boolean): string {
    const { edits, guards } = this;
    // A stable sort: an insertion at the end of one statement stays in front of what follows.
    const all =
      guarded && guards.length > 0 ? [...edits, ...guards].sort((a, b) => a.start - b.start) : edits;
    if (all.length === 0) return text;
    const parts: string[] = [];
    let copied = 0;
    for (const edit of all) {
      parts.push(text.slice(copied, edit.start), edit.text);
      copied = edit.end;
    }
    parts.push(text.slice(copied));
    return parts.join('');
  }
}
