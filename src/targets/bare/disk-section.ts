/** The PCI bus and the disk on it: QEMU's section on one side, the virtual PC's structures on the other. */

import { viewOf } from '../../elf/codec.ts';
import { InputError } from '../../elf/input-error.ts';
import type { RecordOf } from '../../elf/record.ts';
import type { PCI, VIRTIO_BLK } from '../../machine/devices.ts';
import { DISK_SLOT } from '../../machine/virtual-pc.ts';
import type { MigrationStream, Section } from './migration-stream.ts';
import { field, fieldBytes, sectionOf } from './section-fields.ts';
import { encodeVirtio, readVirtio, type VirtioSection } from './virtio-section.ts';

type Pci = RecordOf<typeof PCI>;
type VirtioBlk = RecordOf<typeof VIRTIO_BLK>;

/** Offsets in PCI configuration space. */
const SPACE = { command: 0x04, status: 0x06, ports: 0x10, memory: 0x20, interruptLine: 0x3c } as const;
const COMMAND = { memory: 2, writable: 0x0507 } as const;
const STATUS_INTERRUPT = 1 << 3;
const PORTS = 64;
const WINDOW_SIZE = 0x4000;
const PAGE = 4096;
const DEFAULT_QUEUE = 256;

/** PIIX3: which interrupt a PCI line is routed to. The disk's INTA is on this line. */
const PIRQ_ROUTE = 0x60;
export const DISK_LINE = (DISK_SLOT.device - 1) % 4;

const VIRTIO = { versionOne: 1n << 32n, driverOk: 4, featuresOk: 8 } as const;
/** SEG_MAX, BLK_SIZE, FLUSH and VERSION_1. */
const FEATURES = (1n << 2n) | (1n << 6n) | (1n << 9n) | VIRTIO.versionOne;
/** These only tell the driver of fields in the configuration, or are the device's promise. */
const HARMLESS = (1n << 4n) | (1n << 10n) | (1n << 24n);

const NAMES: readonly (readonly [bit: bigint, name: string])[] = [
  [11n, 'CONFIG_WCE'],
  [12n, 'MQ'],
  [13n, 'DISCARD'],
  [14n, 'WRITE_ZEROES'],
  [27n, 'ANY_LAYOUT'],
  [28n, 'INDIRECT_DESC'],
  [29n, 'EVENT_IDX'],
  [40n, 'RING_RESET'],
];

export const diskSection = ({ sections }: MigrationStream): Section | undefined =>
  sections.find(({ name }) => name.endsWith('/virtio-blk'));

export const bridgeSection = ({ sections }: MigrationStream): Section => {
  const found = sections.find(({ name }) => name.endsWith('/PIIX3'));
  if (!found) throw new InputError('QEMU stream: there is no section PIIX3');
  return found;
};

const BRIDGE_SPACE = 'dev.config[0]';

/** The bridge's configuration with the disk's interrupt routed as on every virtual PC. */
export function routedBridge(bridge: Section): Readonly<Record<string, Uint8Array>> {
  const space = Uint8Array.from(fieldBytes(bridge, BRIDGE_SPACE));
  space[PIRQ_ROUTE + DISK_LINE] = DISK_SLOT.irq;
  return { [BRIDGE_SPACE]: space };
}

/** @throws InputError naming what the virtual PC's disk does not have */
function checkDisk(disk: VirtioSection, bridge: Section): void {
  const beyond = disk.features & ~(FEATURES | HARMLESS);
  if (beyond !== 0n) {
    const names = NAMES.filter(([bit]) => beyond & (1n << bit)).map(([, name]) => name);
    throw new InputError(
      `the guest cannot be taken over: its disk's driver uses ${names.join(', ') || `features 0x${beyond.toString(16)}`}`,
      'start it with previrt run --target bare',
    );
  }
  const route = fieldBytes(bridge, BRIDGE_SPACE)[PIRQ_ROUTE + DISK_LINE];
  if (disk.status !== 0 && route !== DISK_SLOT.irq)
    throw new InputError(`the guest cannot be taken over: its disk's interrupt is not IRQ ${DISK_SLOT.irq}`);
}

const low = (value: bigint): number => Number(BigInt.asUintN(32, value));

/**
 * Where the registers in memory show: wedge/devices/pci.c, place_window().
 * @param ram its size in bytes
 */
function windowOf(command: number, memory: readonly [number, number], ram: number) {
  const [base, high] = memory;
  const on =
    (command & COMMAND.memory) !== 0 &&
    base >= ram &&
    base !== 0 &&
    high === 0 &&
    base <= 2 ** 32 - WINDOW_SIZE;
  return on ? { window: base, window_size: WINDOW_SIZE } : { window: 0, window_size: 0 };
}

export function pciOf(stream: MigrationStream, ram: number): { pci: Pci; virtio_blk: VirtioBlk } {
  const config_address = (field(sectionOf(stream, 'PCIHost'), 'config_reg') & 0x80ff_fffc) >>> 0;
  const section = diskSection(stream);
  if (!section) return { pci: noDisk(config_address), virtio_blk: IDLE };
  const disk = readVirtio(section.bytes);
  checkDisk(disk, bridgeSection(stream));
  const space = viewOf(disk.space);
  const command = space.getUint16(SPACE.command, true) & COMMAND.writable;
  const memory = [
    (space.getUint32(SPACE.memory, true) & ~(WINDOW_SIZE - 1)) >>> 0,
    space.getUint32(SPACE.memory + 4, true),
  ] as const;
  return {
    pci: {
      config_address,
      bar: (space.getUint32(SPACE.ports, true) & ~(PORTS - 1)) >>> 0,
      memory_bar: memory,
      ...windowOf(command, memory, ram),
      command,
      interrupt_line: space.getUint8(SPACE.interruptLine),
      reserved: new Uint8Array(5),
    },
    virtio_blk: virtioOf(disk),
  };
}

const noDisk = (config_address: number): Pci => ({
  config_address,
  bar: 0,
  memory_bar: [0, 0],
  window: 0,
  window_size: 0,
  command: 0,
  interrupt_line: DISK_SLOT.irq,
  reserved: new Uint8Array(5),
});

const IDLE: VirtioBlk = {
  queue_desc: 0n,
  queue_driver: 0n,
  queue_device: 0n,
  driver_feature: [0, 0],
  device_feature_select: 0,
  driver_feature_select: 0,
  queue_pfn: 0,
  queue_size: DEFAULT_QUEUE,
  queue_enable: 0,
  queue_select: 0,
  last_avail: 0,
  used_index: 0,
  status: 0,
  isr: 0,
  broken: 0,
  reserved: new Uint8Array(7),
};

/** QEMU lets all requests end before it stops, so the rings are even. */
function virtioOf({ queue, modern, ...disk }: VirtioSection): VirtioBlk {
  const enabled = modern.enabled !== 0;
  const legacy = !enabled && queue.desc !== 0n;
  const rings = enabled || legacy ? queue : modern;
  const written = modern.driverFeatures.some((word) => word !== 0);
  const driver_feature = written
    ? modern.driverFeatures
    : [low(disk.features & FEATURES), low((disk.features & FEATURES) >> 32n)];
  return {
    ...IDLE,
    queue_desc: rings.desc,
    queue_driver: rings.driver,
    queue_device: rings.device,
    driver_feature: driver_feature.map((word, index) => word & low(FEATURES >> BigInt(32 * index))),
    device_feature_select: modern.deviceFeatureSelect,
    driver_feature_select: modern.driverFeatureSelect,
    queue_pfn: legacy ? Number(queue.desc / BigInt(PAGE)) : 0,
    queue_size: enabled || legacy ? queue.size : modern.size || DEFAULT_QUEUE,
    queue_enable: enabled ? 1 : 0,
    queue_select: disk.queueSelect,
    last_avail: queue.lastAvail,
    used_index: queue.lastAvail,
    status: disk.status,
    isr: disk.isr & 1,
    broken: disk.broken ? 1 : 0,
  };
}

/** The disk's section, from a template's. */
export function encodeDisk(template: Section, pci: Pci, blk: VirtioBlk): Uint8Array {
  const before = readVirtio(template.bytes);
  const space = Uint8Array.from(before.space);
  const view = viewOf(space);
  const kept = view.getUint16(SPACE.status, true) & ~STATUS_INTERRUPT;
  view.setUint16(SPACE.command, pci.command, true);
  view.setUint16(SPACE.status, kept | (blk.isr ? STATUS_INTERRUPT : 0), true);
  view.setUint32(SPACE.ports, pci.bar | (view.getUint32(SPACE.ports, true) & 3), true);
  view.setUint32(SPACE.memory, pci.memory_bar[0]! | (view.getUint32(SPACE.memory, true) & 15), true);
  view.setUint32(SPACE.memory + 4, pci.memory_bar[1]!, true);
  view.setUint8(SPACE.interruptLine, pci.interrupt_line);

  const features = BigInt(blk.driver_feature[0]!) | (BigInt(blk.driver_feature[1]!) << 32n);
  const agreed = blk.queue_pfn !== 0 || (blk.status & VIRTIO.featuresOk) !== 0;
  const modern = blk.queue_pfn === 0;
  const active = !modern || blk.queue_enable !== 0;
  const rings = { desc: blk.queue_desc, driver: blk.queue_driver, device: blk.queue_device };
  const none = { desc: 0n, driver: 0n, device: 0n };
  return encodeVirtio({
    ...before,
    space,
    interrupts: [blk.isr ? 1 : 0, 0, 0, 0],
    status: blk.status,
    isr: blk.isr,
    queueSelect: blk.queue_select,
    features: agreed || !modern ? features : 0n,
    queue: {
      ...(active ? rings : none),
      size: active ? blk.queue_size : DEFAULT_QUEUE,
      lastAvail: blk.last_avail,
    },
    modern: {
      ...(modern ? rings : none),
      deviceFeatureSelect: blk.device_feature_select,
      driverFeatureSelect: blk.driver_feature_select,
      driverFeatures: modern ? [blk.driver_feature[0]!, blk.driver_feature[1]!] : [0, 0],
      size: modern ? blk.queue_size : 0,
      enabled: blk.queue_enable,
    },
    broken: blk.broken !== 0,
    started: (blk.status & VIRTIO.driverOk) !== 0,
  });
}
