/** Builds the hosted wedge: one freestanding 64-bit program, with the 32-bit entry code inside it. */

import { join } from 'node:path';
import { ENTRY_BASE } from '../../substitution/entries.ts';
import { buildWedge, runTool, WEDGE } from '../wedge-build.ts';

/** Above every guest-virtual address, so that the guest has the lowest 4 GiB to itself. */
const LINK_ADDRESS = 0x1000_0000_0000;

const CFLAGS = ['-mfsgsbase', '-fpie', '-no-pie', '-nostdlib', '-static'] as const;

/** Path of the wedge's program. @throws Error with gcc's messages if it does not compile */
export const buildHostedWedge = (): Promise<string> =>
  buildWedge({
    target: 'hosted',
    headers: async () => (await import('./headers.ts')).hostedHeaders(),
    cflags: CFLAGS,
    async link(work, output, compile, sources) {
      const entry = join(work, 'entry');
      const include = compile.filter((flag) => /^-(I|Wa,)/.test(flag));
      await runTool('gcc', [
        ...['-c', ...include, '-o', `${entry}.o`],
        join(WEDGE, 'targets/hosted/entry.S'),
      ]);
      const text = `-Ttext=0x${ENTRY_BASE.toString(16)}`;
      await runTool('ld', [text, '-e', '0', '-o', `${entry}.elf`, `${entry}.o`]);
      await runTool('objcopy', ['-O', 'binary', '-j', '.text', `${entry}.elf`, `${entry}.bin`]);
      await runTool('gcc', [
        ...compile,
        `-Wl,-Ttext-segment=0x${LINK_ADDRESS.toString(16)}`,
        '-Wl,-z,noexecstack',
        '-Wl,--build-id=none',
        ...['-o', output, ...sources],
      ]);
    },
  });
