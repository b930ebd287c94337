/** The documents name files of the project; those are there. */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { REPOSITORY } from '../../guests/cache.ts';

const DOCUMENTS = [
  'README.md',
  'CHANGELOG.md',
  ...readdirSync(join(REPOSITORY, 'docs'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.md'))
    .map((name) => join('docs', name)),
];
/** In backquotes, from the project's root. */
const PATH = /`((?:bench|bin|docs|guests|src|test|wedge)\/[\w./-]+)`/g;

it.each(DOCUMENTS)('%s', (document) => {
  const text = readFileSync(join(REPOSITORY, document), 'utf8');
  const named = Array.from(text.matchAll(PATH), ([, path]) => path!);
  expect(named.filter((path) => !existsSync(join(REPOSITORY, path)))).toEqual([]);
});
