/** What disassembly found in a kernel that is not annotated, for people. */

import { formatAddress } from '../elf/image.ts';
import { printable } from '../elf/input-error.ts';
import type { Discovery } from '../sites/discovery.ts';
import { formatBytes, plural } from './table.ts';

/** Stretches that are listed one by one. */
const LISTED = 20;

/** @param missed functions that should announce modules, and have no place for it */
export function formatDiscovery(path: string, discovery: Discovery, missed: readonly string[]): string {
  const { functions, instructions, bytes, sites, unproven } = discovery;
  const rest = unproven.reduce((sum, { length }) => sum + length, 0);
  const lines = [
    `${path}: ${plural(functions.size, 'function')}, ${plural(instructions, 'instruction')} in ${formatBytes(bytes)} of code, ` +
      `${sites.length} of them sensitive; ${rest === 0 ? 'all of it decoded' : `${plural(rest, 'byte')} not proven to be code, left alone:`}`,
    ...unproven
      .slice(0, LISTED)
      .map(
        ({ address, length, function: name }) =>
          `  ${formatAddress(address)} ${plural(length, 'byte')} ${printable(name)}`,
      ),
    ...(unproven.length > LISTED ? [`  and ${unproven.length - LISTED} more stretches`] : []),
    ...missed.map((name) => `${path}: ${name} cannot be watched: load no modules`),
  ];
  return `${lines.join('\n')}\n`;
}
