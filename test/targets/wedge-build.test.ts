/** The cache that wedges are kept in. */

import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { InputError } from '../../src/elf/input-error.ts';
import { buildWedge, type WedgeRecipe } from '../../src/targets/wedge-build.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'previrt-wedges-'));
  vi.stubEnv('PREVIRT_CACHE', root);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true });
});

/** Of a program that is no program. */
const recipe = (during: () => void = () => {}): WedgeRecipe => ({
  target: 'hosted',
  headers: async () => new Map(),
  cflags: [],
  link: async (_work, output) => {
    during();
    await writeFile(output, 'program');
  },
});

it('a wedge is built once', async () => {
  const path = await buildWedge(recipe());
  expect(readFileSync(path, 'utf8')).toBe('program');
  const again = recipe(() => {
    throw new Error('once more');
  });
  expect(await buildWedge(again)).toBe(path);
});

it('a cache that cannot be written is said to be that', async () => {
  writeFileSync(join(root, 'wedge'), '');
  const building = buildWedge(recipe());
  await expect(building).rejects.toThrow(InputError);
  await expect(building).rejects.toThrow(`the wedge cannot be kept in ${join(root, 'wedge')}: `);
});

it('what cannot get its name leaves nothing behind', async () => {
  const path = await buildWedge(recipe());
  rmSync(join(root, 'wedge'), { recursive: true });
  // A folder that is not empty is not replaced.
  const inTheWay = (): void => void mkdirSync(join(path, 'folder'), { recursive: true });
  await expect(buildWedge(recipe(inTheWay))).rejects.toThrow('the wedge cannot be kept in');
  expect(existsSync(path)).toBe(true);
  expect(readdirSync(join(root, 'wedge'))).toHaveLength(1);
});
