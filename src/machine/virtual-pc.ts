/**
 * The virtual PC, version 1: one CPU without APIC, no HPET, no ACPI, two i8259,
 * i8254, MC146818, one 16550 UART, PCI with virtio-blk. The same on every
 * target; what a kernel cannot find out by itself its command line says.
 */

import { WEDGE_BASE } from '../substitution/entries.ts';

export const VIRTUAL_PC_VERSION = 1;

/** Bytes at the top of the address space that the guest leaves to hypervisor and wedge. */
export const RESERVE_TOP = 2 ** 32 - WEDGE_BASE;

const LINUX_ARGUMENTS: readonly string[] = [
  'console=ttyS0',
  `reservetop=0x${RESERVE_TOP.toString(16)}`,
  // User code could read the time-stamp counter unvirtualized, so it is not the clock.
  'notsc',
  // Leaves 767 MiB of directly mapped memory below what is reserved.
  'vmalloc=56M',
];

/** The whole command line of a Linux kernel: the user's arguments come last and win. */
export const linuxCommandLine = (append: string): string => [...LINUX_ARGUMENTS, append].join(' ').trim();

/** The disk on the PCI bus: virtio-blk with its I/O ports, its registers in memory and its INTA as firmware has assigned them. */
export const DISK_SLOT = { device: 3, ports: 0xc000, memory: 0xfe00_0000, irq: 11 } as const;

export const MEBIBYTE = 2 ** 20;
export const DEFAULT_MEMORY = 128 * MEBIBYTE;
export const MIN_MEMORY = 16 * MEBIBYTE;
/** Above this the guest's physical memory would reach what lies below the wedge while paging is off. */
export const MAX_MEMORY = 3072 * MEBIBYTE;
