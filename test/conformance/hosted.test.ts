/** The conformance guest as a process of this host: line by line what it prints on bare QEMU, but for the list. */

import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { buildConformance } from '../../guests/conformance/build.ts';
import { compareOutputs, describeComparison } from '../../guests/conformance/compare.ts';
import { commandLineFor, exceptionsOf } from '../../guests/conformance/exceptions.ts';
import { withDisk } from './disk.ts';
import { runOnQemu } from './qemu.ts';
import { expectRefusals } from './refusals.ts';

const TIMEOUT = 120_000;
const PREVIRT = fileURLToPath(new URL('../../bin/previrt', import.meta.url));
const run = promisify(execFile);

/** `command` is previrt's, or it with another in front. */
function hosted(
  kernel: string,
  append: string,
  command: readonly string[] = [PREVIRT],
  options: readonly string[] = [],
): Promise<string> {
  return withDisk(async (disk) => {
    const machine = ['--target', 'hosted', '--memory', '64M', '--append', append, '--disk', disk];
    // Rejects unless the guest ends with status 0.
    const child = run(command[0]!, [...command.slice(1), 'run', kernel, ...machine, ...options], {
      timeout: TIMEOUT,
      maxBuffer: 2 ** 24,
    });
    child.child.stdin?.end();
    return (await child).stdout;
  });
}

describe('the conformance guest on hosted', () => {
  it(
    'prints what it prints on bare QEMU',
    async () => {
      const kernel = await buildConformance({ annotated: true });
      const append = commandLineFor('hosted');
      const expected = await runOnQemu(kernel, append, 'conformance: done', TIMEOUT);
      const actual = await hosted(kernel, append);
      const comparison = compareOutputs(expected, actual, exceptionsOf('hosted'));
      expect(comparison.differences, describeComparison(comparison)).toEqual([]);
      // An exception that excuses nothing any more has to go.
      expect(comparison.unused).toEqual([]);
      expect(comparison.same).toBeGreaterThan(2100);
      expectRefusals(expected, actual);
      // Interrupts have come inside the loops that wait for them.
      expect(actual).toMatch(/^# \w+: enough: /m);
      expect(actual).not.toMatch(/^# \w+: too few: /m);
    },
    2 * TIMEOUT,
  );

  it(
    'accesses a device without a trap wherever its rules say so',
    async () => {
      const folder = mkdtempSync(join(tmpdir(), 'previrt-profile-'));
      try {
        const kernel = await buildConformance({ annotated: true });
        const found = join(folder, 'found');
        await hosted(kernel, 'only=device', [PREVIRT], ['--profile', found]);
        const { stdout } = await run(PREVIRT, ['profile', found, kernel, '--json']);
        const { statements } = JSON.parse(stdout) as { statements: { function: string }[] };
        // String instructions are no sites.
        expect(new Set(statements.map((statement) => statement.function))).toEqual(
          new Set(['test_device_strings']),
        );
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
    TIMEOUT,
  );

  it(
    'does so without any privilege, and where the host keeps the lowest 64 KiB',
    async () => {
      const floor = '/proc/sys/vm/mmap_min_addr';
      const before = readFileSync(floor, 'latin1');
      const root = process.getuid?.() === 0;
      // Root without its capabilities: it may still read its own files, and nothing more than anybody may.
      const powerless = root
        ? ['setpriv', '--securebits=+noroot', '--bounding-set=-all', '--inh-caps=-all', '--no-new-privs']
        : [];
      const append = 'only=flags,user,fault,paging,lowmem skip=lowmem.code';
      const kernel = await buildConformance({ annotated: true });
      const expected = await runOnQemu(kernel, append, 'conformance: done', TIMEOUT);
      if (root) writeFileSync(floor, '65536');
      try {
        const actual = await hosted(kernel, append, [...powerless, PREVIRT]);
        const comparison = compareOutputs(expected, actual, exceptionsOf('hosted'));
        expect(comparison.differences, describeComparison(comparison)).toEqual([]);
      } finally {
        if (root) writeFileSync(floor, before);
      }
    },
    2 * TIMEOUT,
  );
});
