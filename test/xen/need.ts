import type { TestContext } from 'vitest';
import { buildXen } from '../../guests/xen/hypervisor.ts';
import { MissingFromMirror, type XenVersion } from '../../guests/xen/release.ts';

/**
 * The hypervisor for a test, which is skipped, and says why, while Debian's
 * mirror has lost the source of that version. Whatever else fails fails the test.
 */
export async function needXen(version: XenVersion, { skip }: Pick<TestContext, 'skip'>): Promise<string> {
  try {
    return await buildXen(version);
  } catch (error) {
    if (error instanceof MissingFromMirror) skip(error.message);
    throw error;
  }
}
