/** The conformance guest without announcements: its module is burned ahead of time, and says what it says on bare QEMU. */

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { buildConformance } from '../../guests/conformance/build.ts';
import { compareOutputs, describeComparison } from '../../guests/conformance/compare.ts';
import { runOnQemu } from './qemu.ts';

const TIMEOUT = 120_000;
const PREVIRT = fileURLToPath(new URL('../../bin/previrt', import.meta.url));
const run = promisify(execFile);

/** Without what a load is refused for, or found in: nobody announces any. */
const APPEND = 'only=module skip=module.lies,module.without_records';

it.each(['hosted', 'xen'])(
  'a module burned ahead of time for %s',
  async (target) => {
    const expected = await runOnQemu(
      await buildConformance({ annotated: true }),
      APPEND,
      'conformance: done',
      TIMEOUT,
    );
    const kernel = await buildConformance({ annotated: true, moduleBurnedFor: target });
    const child = run(PREVIRT, ['run', kernel, '--target', target, '--memory', '64M', '--append', APPEND], {
      timeout: TIMEOUT,
    });
    child.child.stdin?.end();
    const comparison = compareOutputs(expected, (await child).stdout, []);
    expect(comparison.differences, describeComparison(comparison)).toEqual([]);
    expect(comparison.same).toBeGreaterThan(70);
  },
  2 * TIMEOUT,
);
