/** The virtual PC as options of QEMU's. */

import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { BootPlan } from '../../machine/boot-plan.ts';
import { featuresWith } from '../../machine/features.ts';
import { firmware } from '../../machine/firmware.ts';
import { PROCESSORS } from '../../machine/state.ts';
import { DISK_SLOT } from '../../machine/virtual-pc.ts';
import type { RunOptions } from '../target.ts';

export const QEMU = 'qemu-system-i386';

/** What no kernel finds on the virtual PC (PROCESSORS.pentium3): a guest that is taken over must not use it. */
const HIDDEN = ['apic', 'vme', 'mce', 'sep', 'mtrr', 'mca', 'pat', 'pse36'] as const;

/**
 * A Pentium III is the i686 that Debian's i386 programs ask for (cmov), with
 * FXSR, and has no more that a host might lack.
 */
export const PROCESSOR = `pentium3,${HIDDEN.map((feature) => `-${feature}`)}`;
/**
 * With what programs of a guest that comes from elsewhere may have found there. To a processor
 * with XSAVE alone, without XSAVEOPT, QEMU refuses CR4.OSXSAVE (cr4_reserved_bits, target/i386/cpu.h).
 */
export const RICHER = `${PROCESSOR},+sse2,+sse3,+ssse3,+sse4.1,+sse4.2,+popcnt,+xsave,+xsaveopt`;
/** The same as words of CPUID, for kernels: xsave is for programs (withXgetbv). */
export const RICHER_FEATURES = featuresWith(PROCESSORS.pentium3, [
  'sse2',
  'sse3',
  'ssse3',
  'sse4_1',
  'sse4_2',
  'popcnt',
]);

export const machineWith = (processor: string): readonly string[] => [
  ...['-M', 'pc,acpi=off,hpet=off', '-cpu', processor, '-accel', 'tcg'],
  ...['-nodefaults', '-no-user-config', '-display', 'none', '-no-reboot', '-serial', 'stdio'],
];

/** What machines differ in. */
export type Hardware = Pick<RunOptions, 'memory' | 'disk'>;

/** Virtio of the virtual PC's disk and no more: what its driver has agreed to, every target must keep. */
const DISK_PROPERTIES: readonly string[] = [
  ...['disable-legacy=off', 'disable-modern=off', 'vectors=0', 'queue-size=256', 'num-queues=1'],
  ...['indirect_desc=off', 'event_idx=off', 'queue_reset=off', 'any_layout=off'],
  ...['config-wce=off', 'discard=off', 'write-zeroes=off'],
];

/** A comma in an option's value is written twice. */
const quote = (path: string): string => path.replaceAll(',', ',,');

/**
 * Writes what the machine starts from into `folder`; returns the options that name it.
 * @throws InputError if image and options do not fit together
 */
export async function machineOptions(folder: string, options: Hardware, plan: BootPlan): Promise<string[]> {
  const rom = join(folder, 'rom');
  await writeFile(rom, firmware(plan, options.disk !== undefined));
  const args = ['-m', `${options.memory / 1024}K`, '-bios', rom];
  for (const [index, { address, bytes }] of plan.chunks.entries()) {
    const file = join(folder, `chunk-${index}`);
    await writeFile(file, bytes);
    args.push('-device', `loader,file=${quote(file)},addr=0x${address.toString(16)},force-raw=on`);
  }
  if (options.disk !== undefined) {
    args.push('-drive', `if=none,id=disk,format=raw,cache=writeback,file=${quote(resolve(options.disk))}`);
    args.push('-device', `virtio-blk-pci,drive=disk,${DISK_PROPERTIES.join(',')},addr=${DISK_SLOT.device}`);
  }
  return args;
}
