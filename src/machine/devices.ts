/**
 * The devices of virtual PC version 1: their registers as the wedge keeps them
 * and as the machine state stores them. Names are those of the data sheets
 * (Intel 8259A and 8254, Motorola MC146818, National PC16550D, PCI 2.1,
 * virtio 1.1). Times are guest time in nanoseconds (port_time) unless said
 * otherwise; `NEVER`, all ones, stands for no time at all.
 */

import { defineRecord } from '../elf/record.ts';
import { cStruct } from '../x86/struct.ts';

export const I8259 = defineRecord('i8259', 'One 8259A interrupt controller.', [
  ['irr', 'u8', 'interrupt request register'],
  ['isr', 'u8', 'in-service register'],
  ['imr', 'u8', 'interrupt mask register (OCW1)'],
  ['lines', 'u8', 'levels of the inputs IR0 to IR7'],
  ['elcr', 'u8', 'edge/level control (ports 4d0, 4d1): 1 is level'],
  ['icw1', 'u8', ''],
  ['icw2', 'u8', 'vector of IR0'],
  ['icw4', 'u8', ''],
  ['awaited', 'u8', 'number of the next ICW, 0 outside initialization'],
  ['highest', 'u8', 'the input of highest priority'],
  ['special_mask', 'u8', ''],
  ['rotate', 'u8', 'rotate in automatic-EOI mode'],
  ['read_isr', 'u8', 'OCW3: what port 0 reads, 0 irr, 1 isr'],
  ['poll', 'u8', 'OCW3: the next read is a poll'],
  ['intr', 'u8', 'level of the INT output'],
  ['reserved', 'u8', ''],
]);

export const I8254_CHANNEL = defineRecord('i8254_channel', 'One counter of the 8254.', [
  ['start', 'u64', 'when the counting element was loaded; moved on while the gate holds it'],
  ['held', 'u64', 'nanoseconds counted before the gate stopped it; valid if not running'],
  ['reload_at', 'u64', 'when a count written in mode 2 or 3 takes effect, or NEVER'],
  ['edges', 'u64', 'rising edges of OUT since the load that were passed on'],
  ['period', 'u32', 'initial value of the counting element in clocks, 1 to 65536'],
  ['count', 'u16', 'the count register as written'],
  ['latch', 'u16', 'the output latch'],
  ['mode', 'u8', '0 to 5'],
  ['bcd', 'u8', ''],
  ['access', 'u8', 'RW bits: 1 low byte, 2 high byte, 3 low then high'],
  ['gate', 'u8', ''],
  ['written', 'u8', 'a count was written since the control word'],
  ['loaded', 'u8', 'the counting element holds a count'],
  ['running', 'u8', 'and counts'],
  ['null_count', 'u8', 'status bit 6: a written count is not yet loaded'],
  ['reload_low', 'u8', 'the reload in mode 3 begins the low half'],
  ['write_low', 'u8', 'first byte of two'],
  ['write_high', 'u8', 'the next write is the second of two'],
  ['read_high', 'u8', 'the next read is the second of two'],
  ['latched', 'u8', 'bytes of the output latch still to be read'],
  ['status', 'u8', 'the latched status'],
  ['status_latched', 'u8', ''],
  ['reserved', 'u8', ''],
]);

export const I8254 = defineRecord('i8254', 'The interval timer.', [
  ['channels', [I8254_CHANNEL, 3], 'IRQ 0, memory refresh, speaker'],
  ['deadline', 'u64', 'the next rising edge of channel 0 that matters'],
  ['backlog', 'u32', 'periods of channel 0 that passed without an interrupt and are owed'],
  ['reserved', 'u32', ''],
]);

export const MC146818 = defineRecord('mc146818', 'The real-time clock and its battery-backed memory.', [
  ['offset', 's64', 'what the guest added to the wall clock, in nanoseconds'],
  ['second', 'u64', 'the last second whose update was passed on'],
  ['periodic', 'u64', 'the last periodic tick that was passed on'],
  ['deadline', 'u64', ''],
  ['ram', ['u8', 128], 'registers A to D at 10 to 13; time registers only while the clock stands still'],
  ['index', 'u8', 'port 70'],
  ['reserved', ['u8', 7], ''],
]);

export const UART16550 = defineRecord('uart16550', 'The serial port COM1.', [
  ['deadline', 'u64', 'when the character timeout is due'],
  ['rbr', 'u8', 'the last byte received without FIFO'],
  ['ier', 'u8', ''],
  ['fcr', 'u8', ''],
  ['lcr', 'u8', ''],
  ['mcr', 'u8', ''],
  ['lsr', 'u8', ''],
  ['msr', 'u8', ''],
  ['scr', 'u8', ''],
  ['dll', 'u8', ''],
  ['dlm', 'u8', ''],
  ['thre_pending', 'u8', 'transmitter-empty interrupt, not yet seen'],
  ['timeout_pending', 'u8', 'character timeout'],
  ['head', 'u8', 'the oldest byte in the receive FIFO'],
  ['length', 'u8', 'bytes in the receive FIFO'],
  ['reserved', ['u8', 2], ''],
  ['fifo', ['u8', 16], ''],
]);

export const PCI = defineRecord(
  'pci',
  'PCI configuration mechanism 1 and what can be written in its space.',
  [
    ['config_address', 'u32', 'port cf8'],
    ['bar', 'u32', 'of virtio-blk: its I/O ports'],
    ['memory_bar', ['u32', 2], 'of virtio-blk: its registers in memory, an address of 64 bits'],
    ['window', 'u32', 'where those are, if the command register lets them'],
    ['window_size', 'u32', 'and how many bytes; 0: nowhere'],
    ['command', 'u16', 'of virtio-blk'],
    ['interrupt_line', 'u8', 'of virtio-blk'],
    ['reserved', ['u8', 5], ''],
  ],
);

export const VIRTIO_BLK = defineRecord('virtio_blk', 'The disk: virtio 1.1, with the legacy interface too.', [
  ['queue_desc', 'u64', 'guest-physical address of the descriptors'],
  ['queue_driver', 'u64', 'of the available ring'],
  ['queue_device', 'u64', 'of the used ring'],
  ['driver_feature', ['u32', 2], 'what the driver takes'],
  ['device_feature_select', 'u32', ''],
  ['driver_feature_select', 'u32', ''],
  ['queue_pfn', 'u32', 'legacy: guest-physical page number of the ring, 0: none'],
  ['queue_size', 'u16', 'entries, a power of 2'],
  ['queue_enable', 'u16', ''],
  ['queue_select', 'u16', ''],
  ['last_avail', 'u16', 'the next entry of the available ring'],
  ['used_index', 'u16', ''],
  ['status', 'u8', ''],
  ['isr', 'u8', ''],
  ['broken', 'u8', 'the driver broke the rules; nothing happens until it resets the device'],
  ['reserved', ['u8', 7], ''],
]);

export const SYSTEM_PORTS = defineRecord('system_ports', 'Ports that belong to the board.', [
  ['port_61', 'u8', 'bits 0 and 1: gate of channel 2, speaker'],
  ['port_92', 'u8', 'bit 1: A20'],
  ['port_cf9', 'u8', 'reset control'],
  ['reserved', ['u8', 5], ''],
]);

export const MACHINE_DEVICES = defineRecord('machine_devices', 'All devices of the virtual PC.', [
  ['i8259', [I8259, 2], 'master, slave'],
  ['i8254', I8254, ''],
  ['mc146818', MC146818, ''],
  ['uart16550', UART16550, ''],
  ['pci', PCI, ''],
  ['virtio_blk', VIRTIO_BLK, ''],
  ['system', SYSTEM_PORTS, ''],
]);

const LAYOUTS = [
  I8259,
  I8254_CHANNEL,
  I8254,
  MC146818,
  UART16550,
  PCI,
  VIRTIO_BLK,
  SYSTEM_PORTS,
  MACHINE_DEVICES,
] as const;

/** Seconds: a guest that has moved, or stood still in a file, is owed no more of the timer's ticks. */
export const MOST_OWED = 86_400;

/** The C header `generated/devices-state.h`. */
export function deviceStateHeader(): string {
  return [
    '/* Generated from src/machine/devices.ts. */',
    '#ifndef PREVIRT_DEVICES_STATE_H',
    '#define PREVIRT_DEVICES_STATE_H',
    '',
    '#include "core/types.h"',
    '',
    '#define NEVER (~(u64)0)',
    `#define MOST_OWED ${MOST_OWED}u /* seconds */`,
    '',
    ...LAYOUTS.map(cStruct),
    '#endif',
    '',
  ].join('\n');
}
