/**
 * A ROM in the place of a BIOS, for emulated PCs that start at the processor's
 * reset vector: it sets up the board as virtual PC version 1 has it, switches
 * to 32-bit mode and enters a prepared kernel with the registers its boot
 * protocol wants. The boot plan's chunks are already in RAM by then. So a
 * kernel starts from the same state here as under a hypervisor.
 */

import { viewOf } from '../elf/codec.ts';
import type { BootPlan } from './boot-plan.ts';
import { DISK_SLOT } from './virtual-pc.ts';

/** The processor starts in its last 16 bytes (SDM vol. 3A 10.1.4); CS covers just this. */
const ROM_SIZE = 0x1_0000;
/** Where every PC shows the ROM too, below 1 MiB. */
const ROM_ADDRESS = 0xf_0000;
const RESET_VECTOR = 0xfff0;
const GDT = 0xff00;
const GDT_REGISTER = 0xff40;

/** Flat segments at the selectors of Linux's 32-bit boot protocol. Accessed already: a ROM cannot be marked. */
const DESCRIPTORS = [0n, 0n, 0x00cf_9b00_0000_ffffn, 0x00cf_9300_0000_ffffn];
const CODE = 0x10;
const DATA = 0x18;

const u16 = (value: number): number[] => [value & 0xff, (value >>> 8) & 0xff];
const u32 = (value: number): number[] => [...u16(value), ...u16(value >>> 16)];

/** A write to a port: number, value, bytes. */
type PortWrite = readonly [port: number, value: number, size: 1 | 4];

const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
/** Configuration address of a register (PCI 2.1, 3.7.4.1): bus 0, function 0. */
const configAddress = (device: number, register: number): number =>
  (0x8000_0000 | (device << 11) | (register & 0xfc)) >>> 0;

const setConfig = (device: number, register: number, value: number, size: 1 | 4): PortWrite[] => [
  [CONFIG_ADDRESS, configAddress(device, register), 4],
  [CONFIG_DATA + (register & 3), value, size],
];

const PIIX3 = 1;
/** PIRQRC (PIIX3 data sheet): which interrupt a PCI line is routed to. */
const PIRQ_ROUTE = 0x60;
/** The board wires INTA of device n to line (n - 1) mod 4. */
const diskLine = (DISK_SLOT.device - 1) % 4;
const PCI_REGISTER = { command: 0x04, bar0: 0x10, bar4: 0x20, interruptLine: 0x3c } as const;
const COMMAND_IO_MEMORY_AND_MASTER = 0x07;

/** The disk's ports, memory and interrupt, as the virtual PC has them after reset. */
const BOARD: readonly PortWrite[] = [
  ...setConfig(PIIX3, PIRQ_ROUTE + diskLine, DISK_SLOT.irq, 1),
  // Edge/level control of the second i8259: PCI interrupts are levels.
  [0x4d1, 1 << (DISK_SLOT.irq - 8), 1],
  ...setConfig(DISK_SLOT.device, PCI_REGISTER.bar0, DISK_SLOT.ports, 4),
  ...setConfig(DISK_SLOT.device, PCI_REGISTER.bar4, DISK_SLOT.memory, 4),
  ...setConfig(DISK_SLOT.device, PCI_REGISTER.interruptLine, DISK_SLOT.irq, 1),
  ...setConfig(DISK_SLOT.device, PCI_REGISTER.command, COMMAND_IO_MEMORY_AND_MASTER, 1),
];

/** mov $value,%eax; mov $port,%dx; out %al or %eax,(%dx): 16-bit code. */
const outCode = ([port, value, size]: PortWrite): number[] => [
  ...[0x66, 0xb8, ...u32(value)],
  ...[0xba, ...u16(port)],
  ...(size === 4 ? [0x66, 0xef] : [0xee]),
];

/** 16-bit code up to and with the jump to 32-bit code, which follows it at `end` of the ROM. */
function realModeCode(board: readonly PortWrite[]): number[] {
  const setUp = [
    0xfa, // cli
    ...board.flatMap(outCode),
    ...[0x66, 0x2e, 0x0f, 0x01, 0x16, ...u16(GDT_REGISTER)], // lgdtl %cs:GDT_REGISTER
    ...[0x0f, 0x20, 0xc0], // mov %cr0,%eax
    ...[0x0c, 0x01], // or $1,%al
    ...[0x0f, 0x22, 0xc0], // mov %eax,%cr0
  ];
  const JUMP_LENGTH = 8;
  const next = ROM_ADDRESS + setUp.length + JUMP_LENGTH;
  return [...setUp, 0x66, 0xea, ...u32(next), ...u16(CODE)]; // ljmpl $CODE,$next
}

/** 32-bit code: segments, registers, the kernel's entry. */
const enterCode = ({ entry, eax, ebx, esi, esp }: BootPlan): number[] => [
  ...[0xb8, ...u32(DATA)], // mov $DATA,%eax
  ...[0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0], // mov %eax,%ds; %es; %ss
  ...[0x8e, 0xe0, 0x8e, 0xe8], // mov %eax,%fs; %gs
  ...[0xb8, ...u32(eax)],
  ...[0xbb, ...u32(ebx)],
  ...[0xbe, ...u32(esi)],
  ...[0xbc, ...u32(esp)],
  ...[0x31, 0xc9, 0x31, 0xd2, 0x31, 0xff, 0x31, 0xed], // xor %ecx,%ecx; %edx; %edi; %ebp
  ...[0xea, ...u32(entry), ...u16(CODE)], // ljmp $CODE,$entry
];

/** The ROM's 64 KiB. `hasDisk`: there is a disk in its slot to set up. */
export function firmware(plan: BootPlan, hasDisk: boolean): Uint8Array {
  const rom = new Uint8Array(ROM_SIZE);
  rom.set([...realModeCode(hasDisk ? BOARD : []), ...enterCode(plan)]);
  const view = viewOf(rom);
  DESCRIPTORS.forEach((descriptor, index) => {
    view.setBigUint64(GDT + 8 * index, descriptor, true);
  });
  view.setUint16(GDT_REGISTER, 8 * DESCRIPTORS.length - 1, true);
  view.setUint32(GDT_REGISTER + 2, ROM_ADDRESS + GDT, true);
  rom.set([0xe9, ...u16(-(RESET_VECTOR + 3))], RESET_VECTOR); // jmp to the ROM's start
  return rom;
}
