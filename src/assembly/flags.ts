/** Whether the arithmetic flags are still wanted after a site: a short look ahead, on the safe side. */
import type { SiteKindName } from '../x86/site-kinds.ts';
import { sensitiveMnemonic } from './operation.ts';
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

/** Directives that neither place bytes nor leave the section. */
const PASSIVE_DIRECTIVE = /^\.(loc|cfi_.*|p2align|align|balign|file|size|type|globl|local|previrt)$/;

/** Statements looked at before giving up. */
const HORIZON = 16;

function withSuffixes(mnemonics: string): string[] {
  return mnemonics.split(' ').flatMap((name) => ['', 'b', 'w', 'l', 'q'].map((suffix) => name + suffix));
}

/**
 * True unless the flags that an operation of this kind leaves are certainly
 * overwritten before anything can read them. The scanner stands behind it, and moves.
 */
export function flagsLiveAfter(kind: SiteKindName, scanner: Scanner): boolean {
  if (LEAVES.test(kind)) return true;
  for (let seen = 0; seen < HORIZON && scanner.next(); seen++) {
    if (scanner.labelled) return true;
    const word = scanner.text.slice(scanner.wordStart, scanner.wordEnd).toLowerCase();
    if (OVERWRITES.has(word)) return false;
    if (IGNORES.has(word) || PASSIVE_DIRECTIVE.test(word)) continue;
    const sensitive = sensitiveMnemonic(word);
    if (sensitive === undefined || !SENSITIVE_THAT_IGNORE.test(sensitive.kind)) return true;
  }
  return true;
}
