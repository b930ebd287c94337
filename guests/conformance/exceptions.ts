/** The printed list of exceptions: where a target cannot be as bare QEMU is, and why. */

import { readFileSync } from 'node:fs';
import type { Exception } from './compare.ts';

const LISTS = JSON.parse(readFileSync(new URL('./exceptions.json', import.meta.url), 'utf8')) as Record<
  string,
  readonly Exception[]
>;

/** A target's exceptions; none for a target that has no list. */
export const exceptionsOf = (target: string): readonly Exception[] => LISTS[target] ?? [];

/** The guest's command line on a target: leaves out what would end it. */
export function commandLineFor(target: string): string {
  const skipped = exceptionsOf(target).flatMap(({ skip }) => skip ?? []);
  return skipped.length > 0 ? `skip=${skipped.join(',')}` : '';
}
