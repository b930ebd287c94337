/** Temporary directories that vanish when the test file that asked for them is done. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll } from 'vitest';

const directories: string[] = [];

afterAll(() => {
  for (const directory of directories) rmSync(directory, { recursive: true, force: true });
});

export function scratchDirectory(): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'previrt-devices-'));
  directories.push(directory);
  return directory;
}
