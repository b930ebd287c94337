import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, it } from 'vitest';

const ROOT = join(import.meta.dirname, '..', '..');

const bench = (...args: string[]) =>
  spawnSync(join(ROOT, 'node_modules/.bin/tsx'), [join(ROOT, 'bench/main.ts'), ...args], {
    encoding: 'utf8',
  });

const PARTS = [
  'annotator',
  'build',
  'size',
  'instructions',
  'sha',
  'boot',
  'osbench',
  'syscall',
  'burn',
  'xen',
] as const;

it('names its parts in the help', () => {
  const { status, stdout } = bench('--help');
  expect(status).toBe(0);
  const listed = [...stdout.matchAll(/^ {2}(\w+) {2,}\S.*$/gm)].map(([, name]) => name);
  expect(listed).toEqual(expect.arrayContaining([...PARTS]));
});

it('refuses a part that it does not have, in one line', () => {
  const { status, stdout, stderr } = bench('size', 'colour');
  expect(status).toBe(2);
  expect(stdout).toBe('');
  expect(stderr).toMatch(/^previrt: .*'colour'.*annotator, build, size.*\n$/);
});
