/** A console that cannot be written to, or not at once. */

import { closeSync, openSync } from 'node:fs';
import { expect, it } from 'vitest';
import { writeOut } from '../../src/targets/write-out.ts';

it('a console without room loses what is written, and nothing else happens', () => {
  const full = openSync('/dev/full', 'w');
  try {
    expect(() => writeOut(full, 'text')).not.toThrow();
  } finally {
    closeSync(full);
  }
});
