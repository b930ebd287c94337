/** What `previrt run` refuses before anything starts: one line, a status, nothing else. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { linkImage, sitesText } from '../sites/fixture.ts';

const PREVIRT = join(import.meta.dirname, '..', '..', 'bin', 'previrt');
const FAILURE = 1;
const USAGE = 2;

const directory = mkdtempSync(join(tmpdir(), 'previrt-run-'));
const base = '0x1000000';
beforeAll(() => {
  const annotated = linkImage({ text: sitesText(), base });
  writeFileSync(join(directory, 'vmlinux'), annotated);
  writeFileSync(join(directory, 'cut'), annotated.subarray(0, 100));
  writeFileSync(join(directory, 'plain'), linkImage({ text: '.globl _start\n_start: hlt\n', base }));
  writeFileSync(join(directory, 'text'), 'no kernel\n'.repeat(100));
  writeFileSync(join(directory, 'big'), Buffer.alloc(20 << 20));
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const BARE = '--target=bare';

/** Arguments, the exit status, and the line that must be printed. */
const REFUSED: readonly (readonly [args: string, status: number, message: RegExp])[] = [
  ['nowhere', FAILURE, /^previrt: cannot read nowhere: no such file or directory$/],
  ['text', FAILURE, /^previrt: text: not an ELF file/],
  ['cut', FAILURE, /^previrt: cut: /],
  ['plain --target hosted', FAILURE, /site/],
  ['vmlinux --initrd nowhere', FAILURE, /^previrt: cannot read nowhere: no such file or directory$/],
  [`vmlinux ${BARE} --disk nowhere`, FAILURE, /nowhere/],
  ['vmlinux --disk nowhere', FAILURE, /nowhere/],
  ['vmlinux --disk /dev/null', FAILURE, /^previrt: disk \/dev\/null has no sector; /],
  [`vmlinux ${BARE} --machine v86 --disk big`, FAILURE, /^previrt: v86 has no disk; use --machine qemu$/],
  [`vmlinux ${BARE} --memory 16M`, FAILURE, /16 MiB; give it more with --memory$/],
  ['vmlinux --memory 32M --initrd big', FAILURE, /does not fit above the kernel.*more memory with --memory$/],
  [
    `vmlinux ${BARE} --machine moon`,
    USAGE,
    /^previrt: target bare has no machine moon; it has qemu and v86$/,
  ],
  ['vmlinux --target moon', USAGE, /^previrt: .*'moon' is invalid.*bare, hosted/],
  [
    `vmlinux ${BARE} --machine constructor`,
    USAGE,
    /^previrt: target bare has no machine constructor; it has qemu and v86$/,
  ],
  ['vmlinux --json', USAGE, /^previrt: --json is for --stats$/],
  [
    `vmlinux ${BARE} --stats`,
    USAGE,
    /^previrt: there is nothing to count on bare; take --target hosted or xen$/,
  ],
  [
    'vmlinux --profile nowhere/profile',
    FAILURE,
    /^previrt: cannot write nowhere\/profile: no such file or directory; create nowhere first$/,
  ],
  ['vmlinux --profile .', FAILURE, /^previrt: cannot write \.: is a directory; give a file name$/],
  ['vmlinux --memory 8M', USAGE, /A size from 16M to 3072M is wanted/],
  ['vmlinux --memory lots', USAGE, /A size from 16M to 3072M is wanted, such as 128M or 1G/],
  ['vmlinux --memory 16385K', USAGE, /in whole pages of 4K/],
];

it('previrt run says what the host refuses', () => {
  spawnSync(PREVIRT, ['--help']); // It may have to build itself, with temporary files.
  const { status, stderr } = spawnSync(PREVIRT, ['run', 'vmlinux'], {
    cwd: directory,
    encoding: 'utf8',
    env: { ...process.env, TMPDIR: join(directory, 'text', 'nowhere') },
  });
  expect(stderr).toMatch(/^previrt: ENOTDIR: not a directory, mkdtemp '.*nowhere.*'$/m);
  expect(status).toBe(FAILURE);
});

describe('previrt run refuses', () => {
  it.each(REFUSED)('%s', (args, expected, message) => {
    const before = readdirSync(directory);
    const { status, stdout, stderr } = spawnSync(PREVIRT, ['run', ...args.split(' ')], {
      cwd: directory,
      encoding: 'utf8',
      input: '',
    });
    const lines = stderr
      .trim()
      .split('\n')
      .filter((line) => !line.includes('--isolation='));
    expect(lines).toEqual([expect.stringMatching(message)]);
    expect(stdout).toBe('');
    expect(status).toBe(expected);
    expect(readdirSync(directory)).toEqual(before);
  });
});
