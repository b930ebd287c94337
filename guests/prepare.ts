/** Builds every guest that the tests boot, so that no test has to wait for minutes. */

import { buildConformance } from './conformance/build.ts';
import { buildInitramfs, INITRAMFS_NAMES } from './linux/initramfs.ts';
import { buildKernel } from './linux/kernel.ts';
import { runMain } from './main.ts';

await runMain(async () => {
  await buildKernel('annotated');
  for (const name of INITRAMFS_NAMES) await buildInitramfs(name);
  for (const annotated of [true, false]) await buildConformance({ annotated });
});
