/** What a processor can do for user code, by the words of CPUID in a machine state (FEATURE_WORDS). */

import { InputError } from '../elf/input-error.ts';
import { FEATURE_WORDS } from './state.ts';

/** A word for each of FEATURE_WORDS. */
export type Features = readonly number[];

/** Names of bits, as Linux has them in /proc/cpuinfo (SDM vol. 2A, CPUID; APM vol. 3, appendix E), by word. */
const NAMES: Readonly<Record<(typeof FEATURE_WORDS)[number]['name'], Readonly<Record<number, string>>>> = {
  '1.ecx': {
    ...{ 0: 'sse3', 1: 'pclmulqdq', 9: 'ssse3', 12: 'fma', 13: 'cx16', 19: 'sse4_1', 20: 'sse4_2' },
    ...{ 22: 'movbe', 23: 'popcnt', 25: 'aes', 26: 'xsave', 28: 'avx', 29: 'f16c', 30: 'rdrand' },
  },
  '1.edx': {
    ...{ 0: 'fpu', 2: 'de', 3: 'pse', 4: 'tsc', 5: 'msr', 6: 'pae', 8: 'cx8', 13: 'pge', 15: 'cmov' },
    ...{ 19: 'clflush', 23: 'mmx', 24: 'fxsr', 25: 'sse', 26: 'sse2' },
  },
  '7.ebx': {
    ...{ 3: 'bmi1', 5: 'avx2', 8: 'bmi2', 9: 'erms', 16: 'avx512f', 17: 'avx512dq', 18: 'rdseed', 19: 'adx' },
    ...{ 21: 'avx512ifma', 23: 'clflushopt', 24: 'clwb', 26: 'avx512pf', 27: 'avx512er', 28: 'avx512cd' },
    ...{ 29: 'sha_ni', 30: 'avx512bw', 31: 'avx512vl' },
  },
  '7.ecx': {
    ...{ 1: 'avx512vbmi', 6: 'avx512_vbmi2', 8: 'gfni', 9: 'vaes', 10: 'vpclmulqdq', 11: 'avx512_vnni' },
    ...{ 12: 'avx512_bitalg', 14: 'avx512_vpopcntdq', 22: 'rdpid' },
  },
  '7.edx': { 4: 'fsrm', 8: 'avx512_vp2intersect' },
  '80000001.ecx': { 0: 'lahf_lm', 5: 'abm', 6: 'sse4a', 7: 'misalignsse', 8: '3dnowprefetch' },
  '80000001.edx': { 22: 'mmxext', 24: 'fxsr', 27: 'rdtscp' },
  'd.1.eax': { 0: 'xsaveopt', 2: 'xgetbv1' },
};

/** The same features and some more, by their names. */
export const featuresWith = (features: Features, more: readonly string[]): Features =>
  FEATURE_WORDS.map(({ name }, index) => {
    const bits = Object.entries(NAMES[name]).filter(([, feature]) => more.includes(feature));
    return bits.reduce((word, [bit]) => (word | (1 << Number(bit))) >>> 0, features[index]!);
  });

/** The features that a guest knows of and a processor lacks, by their names. */
const missingFeatures = (known: Features, available: Features): string[] =>
  FEATURE_WORDS.flatMap(({ name }, index) => {
    const missing = known[index]! & ~available[index]!;
    return Array.from({ length: 32 }, (_, bit) => bit)
      .filter((bit) => (missing >>> bit) & 1)
      .map((bit) => NAMES[name][bit] ?? `CPUID.${name}[${bit}]`);
  });

/** @throws InputError naming what the guest knows of and a processor lacks */
export function checkFeatures(known: Features, available: Features): void {
  const missing = missingFeatures(known, available);
  if (missing.length > 0)
    throw new InputError(
      `the processor there lacks what the guest knows it has: ${missing.join(', ')}`,
      'start a guest that is to go anywhere with --cpu pentium3',
    );
}
