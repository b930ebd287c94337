/**
 * The section of virtio-blk on PCI. QEMU describes it as one opaque field, so
 * its layout is written down here (QEMU 7.2: virtio_save, the state of
 * virtio-pci and of virtio-blk).
 */

import { viewOf } from '../../elf/codec.ts';
import { InputError } from '../../elf/input-error.ts';
import { encodeSubsection } from './migration-stream.ts';

/** Queues that a device could have: their state is there for all of them. */
const QUEUES = 1024;
const CONFIG_SPACE = 256;

export interface VirtioSection {
  /** PCI configuration space, 256 bytes. */
  readonly space: Uint8Array;
  /** Level of INTA to INTD. */
  readonly interrupts: readonly number[];
  readonly status: number;
  readonly isr: number;
  readonly queueSelect: number;
  /** Features that the driver has taken. */
  readonly features: bigint;
  /** The device's own configuration as the driver reads it, little-endian. */
  readonly config: Uint8Array;
  /** Of queue 0: entries, guest-physical addresses of its rings, the next entry of the available ring. */
  readonly queue: {
    readonly size: number;
    readonly desc: bigint;
    readonly driver: bigint;
    readonly device: bigint;
    readonly lastAvail: number;
  };
  /** The registers in memory, as the driver writes them before a queue is enabled. */
  readonly modern: {
    readonly deviceFeatureSelect: number;
    readonly driverFeatureSelect: number;
    readonly driverFeatures: readonly [number, number];
    readonly size: number;
    readonly enabled: number;
    readonly desc: bigint;
    readonly driver: bigint;
    readonly device: bigint;
  };
  /** The driver broke the rules. */
  readonly broken: boolean;
  /** The driver is at work. */
  readonly started: boolean;
}

const NAME = 'section virtio-blk';

/** Sizes of the subsections without parts that are used here. */
const SUBSECTION_SIZES: Readonly<Record<string, number>> = {
  'virtio/64bit_features': 8,
  'virtio/virtqueues': 16 * QUEUES,
  'virtio/broken': 1,
  'virtio/started': 1,
  'virtio/extra_state': 0, // A subsection of its own follows.
  'virtio_pci/modern_state': 16 + 28 * QUEUES,
};

/** @throws InputError if it is truncated, or holds what the virtual PC's disk cannot */
export function readVirtio(bytes: Uint8Array): VirtioSection {
  const view = viewOf(bytes);
  let at = 0;
  const take = (size: number): number => {
    if (at + size > bytes.length) throw new InputError(`QEMU stream: ${NAME} is truncated`);
    at += size;
    return at - size;
  };
  const u8 = (): number => view.getUint8(take(1));
  const u16 = (): number => view.getUint16(take(2));
  const u32 = (): number => view.getUint32(take(4));
  const u64 = (): bigint => view.getBigUint64(take(8));
  const block = (size: number): Uint8Array => {
    const start = take(size);
    return bytes.slice(start, start + size);
  };

  take(4); // Version of the PCI device's state.
  const space = block(CONFIG_SPACE);
  const interrupts = [u32(), u32(), u32(), u32()];
  const status = u8();
  const isr = u8();
  const queueSelect = u16();
  const lowFeatures = u32();
  const config = block(u32());
  if (u32() !== 1) throw new InputError(`QEMU stream: ${NAME}: it has more than one queue`);
  const size = u32();
  const desc = u64();
  const lastAvail = u16();
  if (u8() !== 0)
    throw new InputError(`QEMU stream: ${NAME}: a request waits for its disk`, 'is the disk full or broken?');

  const parts = new Map<string, Uint8Array>();
  while (at < bytes.length) {
    if (u8() !== 5) throw new InputError(`QEMU stream: ${NAME}: a part without a name`);
    const name = Buffer.from(block(u8())).toString('latin1');
    u32();
    const length = SUBSECTION_SIZES[name];
    if (length === undefined) throw new InputError(`QEMU stream: ${NAME}: unknown part ${name}`);
    parts.set(name, block(length));
  }
  const partOf = (name: string): DataView =>
    viewOf(parts.get(name) ?? new Uint8Array(SUBSECTION_SIZES[name]!));
  const rings = partOf('virtio/virtqueues');
  const modern = partOf('virtio_pci/modern_state');
  /** Low half first. */
  const halves = (offset: number): bigint =>
    BigInt(modern.getUint32(offset)) | (BigInt(modern.getUint32(offset + 4)) << 32n);
  const flag = (name: string): boolean => partOf(name).getUint8(0) !== 0;
  const highFeatures = parts.has('virtio/64bit_features')
    ? partOf('virtio/64bit_features').getBigUint64(0)
    : 0n;
  return {
    space,
    interrupts,
    status,
    isr,
    queueSelect,
    features: highFeatures | BigInt(lowFeatures),
    config,
    queue: { size, desc, lastAvail, driver: rings.getBigUint64(0), device: rings.getBigUint64(8) },
    modern: {
      deviceFeatureSelect: modern.getUint32(0),
      driverFeatureSelect: modern.getUint32(4),
      driverFeatures: [modern.getUint32(8), modern.getUint32(12)],
      size: modern.getUint16(16),
      enabled: modern.getUint8(19),
      desc: halves(20),
      driver: halves(28),
      device: halves(36),
    },
    broken: flag('virtio/broken'),
    started: flag('virtio/started'),
  };
}

/** The section's contents, as this QEMU reads them. */
export function encodeVirtio(state: VirtioSection): Uint8Array {
  const { queue, modern } = state;
  const head = Buffer.alloc(4 + CONFIG_SPACE + 16 + 12);
  head.writeUInt32BE(2);
  head.set(state.space, 4);
  state.interrupts.forEach((level, index) => {
    head.writeUInt32BE(level, 4 + CONFIG_SPACE + 4 * index);
  });
  const device = 4 + CONFIG_SPACE + 16;
  head.writeUInt8(state.status, device);
  head.writeUInt8(state.isr, device + 1);
  head.writeUInt16BE(state.queueSelect, device + 2);
  head.writeUInt32BE(Number(BigInt.asUintN(32, state.features)), device + 4);
  head.writeUInt32BE(state.config.length, device + 8);

  const queues = Buffer.alloc(19);
  queues.writeUInt32BE(1);
  queues.writeUInt32BE(queue.size, 4);
  queues.writeBigUInt64BE(queue.desc, 8);
  queues.writeUInt16BE(queue.lastAvail, 16);

  const features = Buffer.alloc(8);
  features.writeBigUInt64BE(state.features);
  const rings = Buffer.alloc(16 * QUEUES);
  rings.writeBigUInt64BE(queue.driver);
  rings.writeBigUInt64BE(queue.device, 8);
  const registers = Buffer.alloc(16 + 28 * QUEUES);
  registers.writeUInt32BE(modern.deviceFeatureSelect, 0);
  registers.writeUInt32BE(modern.driverFeatureSelect, 4);
  registers.writeUInt32BE(modern.driverFeatures[0], 8);
  registers.writeUInt32BE(modern.driverFeatures[1], 12);
  registers.writeUInt16BE(modern.size, 16);
  registers.writeUInt8(modern.enabled, 19);
  [modern.desc, modern.driver, modern.device].forEach((address, index) => {
    registers.writeUInt32BE(Number(BigInt.asUintN(32, address)), 20 + 8 * index);
    registers.writeUInt32BE(Number(BigInt.asUintN(32, address >> 32n)), 24 + 8 * index);
  });
  const on = Uint8Array.of(1);
  return Buffer.concat([
    head,
    state.config,
    queues,
    encodeSubsection('virtio/64bit_features', 1, features),
    encodeSubsection('virtio/virtqueues', 1, rings),
    encodeSubsection('virtio/extra_state', 1, encodeSubsection('virtio_pci/modern_state', 1, registers)),
    ...(state.broken ? [encodeSubsection('virtio/broken', 1, on)] : []),
    ...(state.started ? [encodeSubsection('virtio/started', 1, on)] : []),
  ]);
}
