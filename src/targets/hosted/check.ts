/** What the hosted target needs of its host, and whether it is there. */

import { readFileSync } from 'node:fs';
import { arch, platform } from 'node:os';
import type { Check } from '../target.ts';

/** A file of /proc, or undefined where there is none. */
function proc(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

const cpuFlags = (): ReadonlySet<string> =>
  new Set(/^flags\s*:\s*(.*)$/m.exec(proc('/proc/cpuinfo') ?? '')?.[1]?.split(' ') ?? []);

/** Mappings that the cache of guest page tables uses at most (wedge/targets/hosted/memory.c), and some to spare. */
const NEEDED_MAPPINGS = 65_000;

export async function hostedChecks(): Promise<readonly Check[]> {
  const actions = proc('/proc/sys/kernel/seccomp/actions_avail')?.split(' ') ?? [];
  const mappings = Number(proc('/proc/sys/vm/max_map_count') ?? 0);
  const floor = Number(proc('/proc/sys/vm/mmap_min_addr') ?? 0);
  const fsgsbase = cpuFlags().has('fsgsbase');
  return [
    {
      name: 'an x86-64 Linux host',
      ok: platform() === 'linux' && arch() === 'x64',
      found: `${platform()} on ${arch()}`,
      advice: 'guest code runs natively: use the bare target elsewhere',
    },
    {
      name: 'user code may set segment bases (FSGSBASE)',
      ok: fsgsbase,
      found: fsgsbase ? 'yes' : 'no flag "fsgsbase" in /proc/cpuinfo',
      advice: 'use Linux 5.9 or newer without "nofsgsbase", on a processor of 2013 or later',
    },
    {
      name: 'seccomp filters that trap and kill',
      ok: actions.includes('trap') && actions.includes('kill_process'),
      found: actions.join(' ') || 'no seccomp',
      advice: 'use a kernel with CONFIG_SECCOMP_FILTER',
    },
    {
      name: 'enough memory mappings (vm.max_map_count)',
      ok: mappings >= NEEDED_MAPPINGS,
      found: String(mappings),
      advice: `sysctl vm.max_map_count=65530`,
    },
    {
      name: 'low addresses (vm.mmap_min_addr)',
      ok: floor <= 0x10000,
      found: floor <= 0x1000 ? String(floor) : `${floor}; accesses below it are emulated one by one`,
      advice: 'sysctl vm.mmap_min_addr=65536 or lower',
    },
  ];
}
