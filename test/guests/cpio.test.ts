import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { cpioArchive } from '../../guests/linux/cpio.ts';

const list = (archive: Buffer): string[] =>
  execFileSync('cpio', ['-t', '-v', '-n', '--quiet'], { input: archive, encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => line.replaceAll(/ +/g, ' '));

describe('cpioArchive', () => {
  it('writes what cpio reads: every type, mode, size and target', () => {
    const archive = cpioArchive([
      { type: 'folder', name: 'bin', mode: 0o755 },
      { type: 'file', name: 'bin/odd', mode: 0o4711, bytes: Buffer.from('12345') },
      { type: 'file', name: 'empty', mode: 0o600, bytes: Buffer.alloc(0) },
      { type: 'link', name: 'bin/sh', to: 'odd' },
      { type: 'device', name: 'console', mode: 0o600, number: [5, 1] },
    ]);
    const date = 'Jan 1 1970';
    expect(list(archive)).toEqual([
      `drwxr-xr-x 2 0 0 0 ${date} bin`,
      `-rws--x--x 1 0 0 5 ${date} bin/odd`,
      `-rw------- 1 0 0 0 ${date} empty`,
      `lrwxrwxrwx 1 0 0 3 ${date} bin/sh -> odd`,
      `crw------- 1 0 0 5, 1 ${date} console`,
    ]);
  });

  it('keeps contents at every alignment', () => {
    for (let length = 0; length < 9; length++) {
      const bytes = Buffer.from('abcdefghi').subarray(0, length);
      const archive = cpioArchive([
        { type: 'file', name: `f${'x'.repeat(length)}`, mode: 0o644, bytes },
        { type: 'file', name: 'next', mode: 0o644, bytes: Buffer.from('next') },
      ]);
      const contents = execFileSync('cpio', ['-i', '--quiet', '--to-stdout'], { input: archive });
      expect(contents.toString()).toBe(`${bytes}next`);
    }
  });
});
