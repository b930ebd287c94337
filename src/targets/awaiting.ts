/** A wedge that awaits a guest: its first words, and what is typed meanwhile. */

import type { Features } from '../machine/features.ts';
import type { ToGuest } from './bare/console.ts';
import { awaitsAnswer, featuresAnswer } from './command.ts';

/**
 * What of its messages, line by line, is for others.
 * @param come is given, once, what its processor can do, and where it says that the memory belongs
 * @param end is called if `come` fails
 */
export function awaiting(
  come: (features: Features, place: string) => void,
  end: () => void,
): (line: string) => string {
  let features: Features = [];
  let came = false;
  return (line) => {
    if (came) return line;
    const told = featuresAnswer(line.trimEnd());
    if (told) {
      features = told;
      return '';
    }
    const place = awaitsAnswer(line.trimEnd());
    if (place === undefined) return line;
    came = true;
    try {
      come(features, place);
      return '';
    } catch (error) {
      end();
      return `previrt: its memory cannot be written: ${(error as Error).message}\n`;
    }
  };
}

/**
 * Holds back what is typed to a guest that is awaited until it is there: the
 * wedge that waits takes it for the order to go on.
 */
export function heldBack(
  toGuest: ToGuest,
  awaited: boolean,
): { readonly type: ToGuest; readonly there: () => void } {
  let early: Uint8Array[] | undefined = awaited ? [] : undefined;
  return {
    type: (bytes) => {
      if (!early) return toGuest(bytes);
      early.push(bytes);
      return undefined;
    },
    there: () => {
      const waiting = early ?? [];
      early = undefined;
      for (const bytes of waiting) void toGuest(bytes);
    },
  };
}
