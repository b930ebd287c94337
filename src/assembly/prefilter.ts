/**
 * A cheap look at a whole source, for `grep -E -i` in front of the annotator:
 * most files of a kernel hold nothing sensitive. It may say yes in vain, never no.
 */
import { RAW_ENCODINGS, SENSITIVE_MNEMONICS, SENSITIVE_REGISTERS } from '../x86/sensitive.ts';

/** One POSIX extended regular expression a line; a source that matches none has no site. Case is ignored. */
export function prefilterPatterns(): string[] {
  const byOperands = new Set(['mov', 'push', 'pop']);
  const words: string[] = [];
  const shortWords: string[] = [];
  for (const [word, { form }] of SENSITIVE_MNEMONICS) {
    if (byOperands.has(form)) continue;
    (form === 'fixed' ? words : shortWords).push(word);
  }
  // `.byte` may be spelled with any radix and any number of zeros; the first byte is always 0f.
  const firstBytes = new Set(
    [...RAW_ENCODINGS.keys()].map((bytes) => Number.parseInt(bytes.slice(0, 2), 16)),
  );
  const spellings = [...firstBytes].flatMap((byte) => [
    `0x0*${byte.toString(16)}`,
    `${byte}`,
    `0+${byte.toString(8)}`,
    `0b0*${byte.toString(2)}`,
  ]);
  const statement =
    '(^|[;:"/\\])[[:space:]]*((rep[a-z]*|lock|data16|data32|addr16|addr32|[cdefgs]s)[[:space:];]+)*';
  const wordEnd = '([^a-z0-9_.$]|$)';
  return [
    // Also as a bare argument of a macro.
    `(^|[^a-z0-9_.$])(${words.join('|')})${wordEnd}`,
    `${statement}(${shortWords.join('|')})${wordEnd}`,
    `%(${[...SENSITIVE_REGISTERS.keys()].join('|')})([^a-z0-9:]|$)`,
    `\\.byte[[:space:]]+(${spellings.join('|')})[[:space:]]*,`,
    '\\.previrt',
  ];
}
