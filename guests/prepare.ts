/** Builds every guest that the tests boot, and what they boot on, so that no test has to wait for minutes. */

import { buildConformance } from './conformance/build.ts';
import { crashCommand, debugKernel } from './linux/crash.ts';
import { buildInitramfs, INITRAMFS_NAMES } from './linux/initramfs.ts';
import { buildKernel } from './linux/kernel.ts';
import { FLAVOURS, stockKernel } from './linux/stock.ts';
import { runMain } from './main.ts';
import { buildDom0 } from './xen/dom0.ts';
import { buildXen } from './xen/hypervisor.ts';
import { XEN_VERSIONS } from './xen/release.ts';

await runMain(async () => {
  await buildKernel('annotated');
  await buildKernel('annotated', 'pae');
  await buildKernel('annotated', 'modules');
  for (const flavour of FLAVOURS) await stockKernel(flavour);
  await crashCommand();
  await debugKernel((await stockKernel('686')).release);
  for (const name of INITRAMFS_NAMES) await buildInitramfs(name);
  for (const annotated of [true, false]) await buildConformance({ annotated });
  for (const version of XEN_VERSIONS) await buildXen(version);
  await buildDom0();
});
