/** Whether the arithmetic flags are still wanted after a site: short looks ahead and back, on the safe side. */
import { type Operation, sensitiveMnemonic } from './operation.ts';
import type { Scanner } from './scanner.ts';

/** Overwrite CF PF AF ZF SF OF (or leave them undefined) and read none of them. */
const OVERWRITES = new Set(withSuffixes('add sub cmp and or xor test neg imul mul cmpxchg xadd popf'));

/** Neither read nor write them; string moves and anything that branches are left out. */
const IGNORES = new Set([
  ...withSuffixes('mov lea push pop xchg not nop bswap movzb movzw movsb movsw'),
  ...['movzx', 'movsx', 'movabs', 'cltd', 'cwtl', 'cltq', 'cqto', 'pause', 'lfence', 'mfence', 'sfence'],
  ...['leave', 'cld', 'std', 'rep', 'lock', 'movzbl', 'movzwl', 'movsbl', 'movswl'],
]);

/** Sensitive operations after which control goes on to the next statement, flags as they were. */
const SENSITIVE_THAT_IGNORE =
  /^(cli|sti|hlt|mov_.*|clts|lmsw|smsw|[ls][gil]dt|ltr|str|inv.*|wbinvd|(rd|wr).*|cpuid|xsetbv|xgetbv|monitor|mwait|push_seg|pop_seg|load_far_pointer|swapgs|in|out|ins|outs)$/;

/** Sensitive operations after which control is elsewhere. */
const LEAVES = /^(iret|far_.*|sys.*|int|entry_.*|rsm)$/;

/** Directives that place no instructions. */
const PASSIVE_DIRECTIVE = /^\.(loc|cfi_.*|p2align|align|balign|file|size|type|globl|local|previrt)$/;

/** Sensitive operations whose result is in the flags. */
const SETS_FLAGS = /^(popf|verr|verw|lar|lsl|arpl)$/;

/** Statements looked at before giving up. */
const HORIZON = 16;

function withSuffixes(mnemonics: string): string[] {
  return mnemonics.split(' ').flatMap((name) => ['', 'b', 'w', 'l', 'q'].map((suffix) => name + suffix));
}

/**
 * True unless the flags that the scanner's statement, an operation of this kind,
 * leaves are certainly never read.
 */
export function flagsLiveAfter(
  { kind, setsFlags = SETS_FLAGS.test(kind) }: Pick<Operation, 'kind' | 'setsFlags'>,
  scanner: Scanner,
): boolean {
  if (LEAVES.test(kind)) return true;
  if (!setsFlags && startsWithoutFlags(scanner)) return false;
  return readAhead(scanner.fork());
}

/**
 * To the compiler every inline assembly statement destroys the flags, so none
 * can have been passed in: until something sets them there is nothing to keep.
 */
function startsWithoutFlags(scanner: Scanner): boolean {
  if (scanner.inlineAsm === undefined) return false;
  const before = scanner.fork(scanner.inlineAsm);
  for (let seen = 0; seen < HORIZON && before.next(); seen++) {
    if (before.start === scanner.start) return true;
    if (!leavesFlagsAlone(currentWord(before))) return false;
  }
  return false;
}

function readAhead(scanner: Scanner): boolean {
  for (let seen = 0; seen < HORIZON && scanner.next(); seen++) {
    if (scanner.labelled) return true;
    const word = currentWord(scanner);
    if (OVERWRITES.has(word)) return false;
    if (!leavesFlagsAlone(word)) return true;
  }
  return true;
}

function leavesFlagsAlone(word: string): boolean {
  if (IGNORES.has(word) || PASSIVE_DIRECTIVE.test(word)) return true;
  const sensitive = sensitiveMnemonic(word);
  return sensitive !== undefined && SENSITIVE_THAT_IGNORE.test(sensitive.kind);
}

const currentWord = ({ text, wordStart, wordEnd }: Scanner) => text.slice(wordStart, wordEnd).toLowerCase();
