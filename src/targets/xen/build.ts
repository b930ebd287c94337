/** Builds the Xen wedge: one 32-bit program at its fixed addresses. Xen's public headers come from package libxen-dev. */

import { join } from 'node:path';
import {
  CONTROL_PAGE,
  ENTRY_BASE,
  HYPERCALL_PAGE,
  POINTER_PAGE,
  WEDGE_BASE,
  XEN_HOLE,
} from '../../substitution/entries.ts';
import { buildWedge, runTool, WEDGE } from '../wedge-build.ts';

const ADDRESSES = { WEDGE_BASE, CONTROL_PAGE, POINTER_PAGE, ENTRY_BASE, HYPERCALL_PAGE, XEN_HOLE } as const;

const CFLAGS = [
  '-m32',
  '-march=i686',
  '-mregparm=0',
  '-fno-pic',
  '-no-pie',
  '-nostdlib',
  '-static',
  // Each page costs as much as the first one.
  '-DMAP_WINDOW=4u',
  '-DREGION_POOL=1392',
] as const;

/** Path of the wedge's program. @throws Error with gcc's messages if it does not compile */
export const buildXenWedge = (): Promise<string> =>
  buildWedge({
    target: 'xen',
    headers: async () => (await import('./headers.ts')).xenHeaders(),
    cflags: CFLAGS,
    async link(work, output, compile, sources) {
      const entry = join(work, 'entry.o');
      await runTool('gcc', [...compile, '-c', '-o', entry, join(WEDGE, 'targets/xen/entry.S')]);
      await runTool('gcc', [
        ...compile,
        ...Object.entries(ADDRESSES).map(([name, value]) => `-Wl,--defsym,${name}=0x${value.toString(16)}`),
        `-Wl,-T,${join(WEDGE, 'targets/xen/xen.lds')}`,
        '-Wl,--build-id=none',
        ...['-o', output, ...sources, entry, '-lgcc'],
      ]);
    },
  });
