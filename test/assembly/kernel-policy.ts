import type { Policy } from '../../src/assembly/policy.ts';

/** What most files of a kernel get. */
export const kernelPolicy: Policy = {
  domains: ['cpu', 'portio'],
  absolute: false,
  absoluteSections: ['.altinstr_replacement', '.head.text'],
  discardedSections: ['.discard'],
  announcements: new Map([['module_finalize', 'module_load']]),
  accesses: [],
  profile: [],
};
