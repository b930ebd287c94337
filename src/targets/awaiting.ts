/** The first words of a wedge that awaits a guest. */

import type { Features } from '../machine/features.ts';
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
