/**
 * From QEMU's migration stream to the machine state and back. QEMU's machine
 * has more devices than the virtual PC; one of those in use cannot be taken
 * over, and is refused by its name.
 */

import { InputError } from '../../elf/input-error.ts';
import type { Features } from '../../machine/features.ts';
import { checkRange, nonZeroRuns, PAGE_SIZE, type Ram, type RamRange } from '../../machine/ram.ts';
import { type Machine, type MachineState, usesDisk } from '../../machine/state.ts';
import { VIRTUAL_PC_VERSION } from '../../machine/virtual-pc.ts';
import { guestPhysical } from '../../x86/address.ts';
import { cpuFields, cpuOf, cpuSubsections, fpuOf } from './cpu-sections.ts';
import {
  i8254Fields,
  i8254Of,
  i8259Fields,
  i8259Of,
  mc146818Fields,
  mc146818Of,
  speakerFields,
  systemPortsOf,
  uartFields,
  uartOf,
  uartSubsections,
} from './device-sections.ts';
import { bridgeSection, DISK_LINE, diskSection, encodeDisk, pciOf, routedBridge } from './disk-section.ts';
import type { DescribedDevice } from './migration-description.ts';
import { type MigrationStream, portionsOf, type RamPage, type Section } from './migration-stream.ts';
import {
  type FieldValue,
  field,
  type NewSubsection,
  sectionOf,
  wideField,
  withContents,
  withFields,
  withSubsection,
} from './section-fields.ts';

/** QEMU's name of the machine, with the version that fixes what its devices are like. */
const MACHINE = 'pc-i440fx-7.2';
/** QEMU's name of the guest's memory. */
export const RAM = 'pc.ram';

/** Sections of the machine; a PCI device's name has its address in front. */
const KNOWN: ReadonlySet<string> = new Set([
  ...[
    'timer',
    'cpu_common',
    'cpu',
    'fw_cfg',
    'PCIHost',
    'PCIBUS',
    'I440FX',
    'PIIX3',
    'dma',
    'i8259',
    'ioapic',
  ],
  ...[
    'mc146818rtc',
    'i8254',
    'pcspk',
    'serial',
    'fdc',
    'ps2kbd',
    'ps2mouse',
    'pckbd',
    'vmmouse',
    'port92',
    'ide',
  ],
  ...['virtio-blk', 'globalstate'],
]);

const deviceName = (section: string): string => section.slice(section.lastIndexOf('/') + 1);

/** DMA channels that are not masked; 4 cascades the first controller. */
function activeDma(stream: MigrationStream): number[] {
  const inUse = (instance: number, ignored: number): number =>
    ~field(sectionOf(stream, 'dma', instance), 'mask') & 0xf & ~ignored;
  const channels = inUse(0, 0) | (inUse(1, 1) << 4);
  return Array.from({ length: 8 }, (_, channel) => channel).filter((channel) => channels & (1 << channel));
}

const IOAPIC_MASKED = 0x1_0000n;
const IOAPIC_INPUTS = 24;

/** @throws InputError naming a device that the virtual PC lacks and the guest uses */
function checkDevices(stream: MigrationStream): void {
  const refuse = (what: string): never => {
    throw new InputError(
      `the guest cannot be taken over: it uses ${what}, which the virtual PC does not have`,
    );
  };
  if (stream.machine !== MACHINE)
    throw new InputError(`the guest runs on ${stream.machine}, not on ${MACHINE}`, 'use QEMU 7.2');
  const stranger = stream.sections.find(({ name }) => !KNOWN.has(deviceName(name)));
  if (stranger) refuse(`a device ${stranger.name}`);
  const dma = activeDma(stream)[0];
  if (dma !== undefined) refuse(`DMA channel ${dma}`);
  const ioapic = sectionOf(stream, 'ioapic');
  for (let input = 0; input < IOAPIC_INPUTS; input++)
    if (!(wideField(ioapic, `ioredtbl[${input}]`) & IOAPIC_MASKED)) refuse('an I/O APIC');
}

/** Bytes of which QEMU has whole ones alone (set_memory_options, softmmu/vl.c): of a guest with an odd number of pages it has one more. */
const QEMU_MULTIPLE = 8192;
const inQemu = (size: number): number => Math.ceil(size / QEMU_MULTIPLE) * QEMU_MULTIPLE;

/** RAM as the stream's pages have it; they are not copied. @param given what the guest was told that it has */
function ramOf(stream: MigrationStream, given: number | undefined): Ram {
  const block = stream.blocks.find(({ name }) => name === RAM);
  if (!block) throw new InputError(`QEMU stream: there is no block ${RAM}`);
  const size = given ?? block.size;
  if (inQemu(size) !== block.size)
    throw new InputError(`QEMU stream: ${block.size} bytes of RAM, the guest has ${size}`);
  const pages = new Map<number, Uint8Array>();
  for (const portion of stream.portions)
    for (const page of portion.pages)
      if (page.block === RAM && page.offset < size) {
        if (page.bytes) pages.set(page.offset, page.bytes);
        else pages.delete(page.offset);
      }
  const extents: RamRange[] = [];
  for (const start of [...pages.keys()].sort((one, other) => one - other)) {
    const last = extents.at(-1);
    if (last && last.start + last.size === start)
      extents[extents.length - 1] = { start: last.start, size: last.size + PAGE_SIZE };
    else extents.push({ start: guestPhysical(start), size: PAGE_SIZE });
  }
  const ram: Ram = {
    size,
    extents,
    read(start, into) {
      checkRange(ram, start, into.length);
      for (let done = 0; done < into.length; ) {
        const inPage = (start + done) % PAGE_SIZE;
        const count = Math.min(PAGE_SIZE - inPage, into.length - done);
        const page = pages.get(start + done - inPage);
        if (page) into.set(page.subarray(inPage, inPage + count), done);
        else into.fill(0, done, done + count);
        done += count;
      }
    },
  };
  return ram;
}

export interface Taken {
  /** Bytes of RAM that the guest has, if that may be less than QEMU's. */
  readonly ramSize?: number | undefined;
  /** Nanoseconds since 1970-01-01 00:00:00 UTC at which QEMU stopped: its stream does not say. */
  readonly wallTime: bigint;
  /** Nanoseconds that the guest's clock was behind then. */
  readonly owed: bigint;
  /** Guest-virtual minus guest-physical address of the kernel, as linked. */
  readonly linkOffset: number;
  /** What user code could see of the processor. */
  readonly features: Features;
}

/**
 * The machine that a stopped QEMU has written. Its kernel has its own bytes at all sites.
 * @throws InputError naming the section that is malformed, or what the virtual PC does not have
 */
export function toMachineState(stream: MigrationStream, taken: Taken): Machine {
  const { ramSize, wallTime, owed, linkOffset, features } = taken;
  checkDevices(stream);
  const ram = ramOf(stream, ramSize);
  const timer = sectionOf(stream, 'timer');
  const time = wideField(timer, 'cpu_clock_offset');
  if (time < 0n) throw new InputError('QEMU stream: section timer: time before power-on');
  const state: MachineState = {
    ram_size: BigInt(ram.size),
    time,
    wall_time: wallTime - owed,
    tsc: BigInt.asUintN(64, wideField(timer, 'cpu_ticks_offset')),
    pc_version: VIRTUAL_PC_VERSION,
    link_offset: linkOffset,
    domains: 0,
    ...fpuOf(stream),
    features,
    cpu: cpuOf(stream, ram),
    devices: {
      i8259: [i8259Of(stream, 0), i8259Of(stream, 1)],
      i8254: i8254Of(stream, time),
      mc146818: mc146818Of(stream, time, wallTime),
      uart16550: uartOf(stream),
      ...pciOf(stream, ram.size),
      system: systemPortsOf(stream),
    },
  };
  return { state, sites: [], ram };
}

/* --- And back --- */

/** @throws InputError if the state cannot go on in the machine that the template is of */
function checkTemplate(template: MigrationStream, { state, ram }: Machine): void {
  if (template.machine !== MACHINE)
    throw new InputError(`this QEMU's machine is ${template.machine}, not ${MACHINE}`, 'use QEMU 7.2');
  const block = template.blocks.find(({ name }) => name === RAM);
  if (block?.size !== inQemu(ram.size))
    throw new InputError(`this QEMU has ${block?.size ?? 0} bytes of RAM, the guest ${ram.size}`);
  if (state.domains !== 0)
    throw new InputError('the guest is burned: its sites must hold their own instructions on bare hardware');
  if (usesDisk(state) && !diskSection(template))
    throw new InputError('the guest uses a disk, and this QEMU has none', 'use --disk');
}

function* ramPages(ram: Ram): Generator<RamPage> {
  let sameBlock = false;
  for (const { start, bytes } of nonZeroRuns(ram))
    for (let done = 0; done < bytes.length; done += PAGE_SIZE) {
      yield { block: RAM, offset: start + done, bytes: bytes.subarray(done, done + PAGE_SIZE), sameBlock };
      sameBlock = true;
    }
}

/** What the machine begins with, but for pages of the guest's RAM that are zero: its other blocks stay as they are. */
function* firstPages({ portions }: MigrationStream, ram: Ram): Generator<RamPage> {
  for (const { pages } of portions)
    for (const page of pages)
      if (page.block !== RAM) yield { ...page, sameBlock: false };
      else if (page.bytes && page.offset < ram.size) yield { ...page, bytes: undefined, sameBlock: false };
}

/** Pages that nobody has written are zero in a new machine too: a stream of all would be long. */
const pagesOf = (template: MigrationStream, ram: Ram): Iterable<RamPage> => ({
  *[Symbol.iterator]() {
    yield* firstPages(template, ram);
    yield* ramPages(ram);
  },
});

/** In PCI's command register (PCI Local Bus 2.3, 6.2.2). */
const INTERRUPT_DISABLE = 1 << 10;

type Change = (section: Section, device: DescribedDevice) => readonly [Section, DescribedDevice];

const replacing =
  (values: Readonly<Record<string, FieldValue>>): Change =>
  (section, device) => [withFields(section, values), device];

const extending =
  (values: Readonly<Record<string, FieldValue>>, parts: readonly NewSubsection[]): Change =>
  (section, device) =>
    parts.reduce<readonly [Section, DescribedDevice]>(
      ([changed, described], part) => withSubsection(changed, described, part),
      [withFields(section, values), device],
    );

/** What becomes of the template's sections, by name. */
function changesFor(template: MigrationStream, state: MachineState, wallTime: bigint): Map<string, Change> {
  const { devices, time } = state;
  const processor = cpuFields(state);
  // The device keeps what it asks for; what PCI holds back is not counted.
  const level = devices.virtio_blk.isr && !(devices.pci.command & INTERRUPT_DISABLE) ? 1 : 0;
  const changes: Record<string, Change> = {
    timer: replacing(processor.timer),
    cpu_common: replacing(processor.cpu_common),
    cpu: extending(processor.cpu, cpuSubsections(state)),
    i8259: (section, device) =>
      replacing(i8259Fields(devices.i8259[section.instance === 0 ? 0 : 1]!))(section, device),
    i8254: replacing(i8254Fields(devices.i8254, time)),
    mc146818rtc: replacing(mc146818Fields(devices.mc146818, wallTime)),
    pcspk: replacing(speakerFields(devices.system)),
    port92: replacing({ outport: devices.system.port_92 }),
    serial: extending(uartFields(devices.uart16550), uartSubsections(devices.uart16550)),
    PCIHost: replacing({ config_reg: devices.pci.config_address }),
    PCIBUS: replacing({ [`irq_count[${DISK_LINE}]`]: level }),
    PIIX3: replacing({
      ...routedBridge(bridgeSection(template)),
      [`pci_irq_levels_vmstate[${DISK_LINE}]`]: level,
    }),
    'virtio-blk': (section, device) =>
      withContents(section, device, 'virtio', encodeDisk(section, devices.pci, devices.virtio_blk)),
  };
  return new Map(Object.entries(changes));
}

/**
 * A stream that a new QEMU goes on from.
 * @param template what the same QEMU with the same command line writes before its first instruction
 * @param wallTime nanoseconds since 1970-01-01 00:00:00 UTC at which it will go on, about
 * @throws InputError if the machines differ
 */
export function toStream(template: MigrationStream, machine: Machine, wallTime: bigint): MigrationStream {
  checkTemplate(template, machine);
  const changes = changesFor(template, machine.state, wallTime);
  const changed = template.sections.map((section, index) => {
    const device = template.description.devices[index]!;
    const change = changes.get(deviceName(section.name));
    return change ? change(section, device) : ([section, device] as const);
  });
  const description = { ...template.description, devices: changed.map(([, device]) => device) };
  return {
    ...template,
    portions: portionsOf(pagesOf(template, machine.ram)),
    sections: changed.map(([section]) => section),
    description,
    descriptionText: JSON.stringify(description),
  };
}
