/** The option that says how much memory a guest has. */

import { InvalidArgumentError, Option } from 'commander';
import { DEFAULT_MEMORY, MAX_MEMORY, MEBIBYTE, MIN_MEMORY } from '../machine/virtual-pc.ts';

const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': MEBIBYTE,
  K: 1024,
  M: MEBIBYTE,
  G: 1024 * MEBIBYTE,
};

/** "128M", "1G"; a bare number is MiB. */
function memorySize(text: string): number {
  const match = /^(\d+)([KMG]?)$/i.exec(text);
  const size = match ? Number(match[1]) * SIZE_UNITS[match[2]!.toUpperCase()]! : Number.NaN;
  if (!(size >= MIN_MEMORY && size <= MAX_MEMORY) || size % 4096)
    throw new InvalidArgumentError(
      `A size from ${MIN_MEMORY / MEBIBYTE}M to ${MAX_MEMORY / MEBIBYTE}M is wanted, such as 128M or 1G, in whole pages of 4K.`,
    );
  return size;
}

/** Without a value of its own: what the default is may depend on other things. */
export const memoryOption = (): Option =>
  new Option(
    '--memory <size>',
    `guest memory, such as 128M or 1G (default: ${DEFAULT_MEMORY / MEBIBYTE}M)`,
  ).argParser(memorySize);
