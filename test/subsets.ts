/** All subsets of the domains that can be left out. */

import { DOMAINS, type DomainName } from '../src/x86/site-kinds.ts';

export const OPTIONAL = ['portio', 'mmio', 'pagetable'] as const satisfies readonly DomainName[];

/** Each with the domains that cannot be left out. */
export const SUBSETS: readonly (readonly DomainName[])[] = [...Array(1 << OPTIONAL.length).keys()].map(
  (mask) =>
    (Object.keys(DOMAINS) as DomainName[]).filter((name) => {
      const index = (OPTIONAL as readonly DomainName[]).indexOf(name);
      return index < 0 || mask & (1 << index);
    }),
);
