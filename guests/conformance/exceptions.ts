/** The printed list of exceptions: where a target cannot be as bare QEMU is, and why. */

import { readFileSync } from 'node:fs';
import type { Exception } from './compare.ts';

const LISTS = JSON.parse(readFileSync(new URL('./exceptions.json', import.meta.url), 'utf8')) as Record<
  string,
  readonly Exception[]
>;

/** A target's exceptions; none for a target that has no list. Several names: what is special about it has a list of its own. */
export const exceptionsOf = (...targets: readonly string[]): readonly Exception[] =>
  targets.flatMap((target) => LISTS[target] ?? []);

/** The guest's command line on a target: leaves out what would end it, or is not there. */
export function commandLineFor(...targets: readonly string[]): string {
  const skipped = exceptionsOf(...targets).flatMap(({ skip }) => skip ?? []);
  return skipped.length > 0 ? `skip=${skipped.join(',')}` : '';
}
