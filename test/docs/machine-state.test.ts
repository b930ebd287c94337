/** What docs/machine-state.md says of sizes and fields is what the definitions say. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { REPOSITORY } from '../../guests/cache.ts';
import { RAM_BLOCK, STATE_HEADER, STATE_NOTES } from '../../src/machine/state-notes.ts';
import { PATCH_ENTRY } from '../../src/sites/patch-table.ts';

const text = readFileSync(join(REPOSITORY, 'docs', 'machine-state.md'), 'utf8');

it('a site', () => {
  const [, size, fields] = /A site is (\d+) bytes \(`PATCH_ENTRY`\): ([^.]*)\./.exec(text)!;
  expect(Number(size)).toBe(PATCH_ENTRY.size);
  const sizes = Array.from(fields!.matchAll(/\bu(8|16|32)\b|(\d+) bytes/g), ([, bits, bytes]) =>
    bits ? Number(bits) / 8 : Number(bytes),
  );
  expect(sizes).toEqual(PATCH_ENTRY.fields.map((field) => field.size));
});

it.each([
  ['`STATE_HEADER`:', STATE_HEADER],
  ['`STATE_TIME`:', STATE_NOTES.find(({ name }) => name === 'time')!.layout],
  ['## RAM', RAM_BLOCK],
])('the table of %s', (heading, layout) => {
  const table = text
    .slice(text.indexOf(heading))
    .split('\n\n')
    .find((part) => part.startsWith('| field'))!;
  const rows = table.split('\n').slice(2);
  expect(
    rows.map((row) =>
      row
        .split('|')
        .slice(1, 3)
        .map((cell) => cell.trim()),
    ),
  ).toEqual(layout.fields.map(({ name, type }) => [name, type]));
});
