/**
 * The devices: fields of QEMU's sections on one side, the virtual PC's
 * structures on the other (QEMU 7.2, hw/intc, hw/timer, hw/rtc, hw/char).
 * What is said of a device there is in wedge/devices/.
 */

import { InputError } from '../../elf/input-error.ts';
import type { RecordOf } from '../../elf/record.ts';
import type * as layouts from '../../machine/devices.ts';
import type { MigrationStream, Section } from './migration-stream.ts';
import {
  type FieldValue,
  field,
  fieldBytes,
  hasField,
  type NewSubsection,
  optionalField,
  sectionOf,
  wideField,
} from './section-fields.ts';

type I8259 = RecordOf<typeof layouts.I8259>;
export type Channel = RecordOf<typeof layouts.I8254_CHANNEL>;
type I8254 = RecordOf<typeof layouts.I8254>;
type Mc146818 = RecordOf<typeof layouts.MC146818>;
type Uart = RecordOf<typeof layouts.UART16550>;
type SystemPorts = RecordOf<typeof layouts.SYSTEM_PORTS>;
type Fields = Record<string, FieldValue>;

export const NEVER = 2n ** 64n - 1n;
const SECOND = 1_000_000_000n;

/* --- i8259 --- */

const ICW1 = { base: 0x10, needsIcw4: 1, single: 2, level: 8 } as const;
const ICW4 = { x86: 1, autoEoi: 2, nested: 0x10 } as const;
const CASCADE = 2;

/** The input that would be signalled: wedge/devices/i8259.c, request(). */
function requests(pic: Omit<I8259, 'intr'>, master: boolean): boolean {
  const rank = (inputs: number): number => {
    for (let place = 0; place < 8; place++) if (inputs & (1 << ((place + pic.highest) & 7))) return place;
    return 8;
  };
  const requested = rank(pic.irr & ~pic.imr);
  const served = rank(pic.special_mask ? pic.isr & ~pic.imr : pic.isr);
  if (requested === 8) return false;
  const nested = master && ((requested + pic.highest) & 7) === CASCADE && (pic.icw4 & ICW4.nested) !== 0;
  return requested < served || (nested && requested === served);
}

export function i8259Of(stream: MigrationStream, instance: 0 | 1): I8259 {
  const from = sectionOf(stream, 'i8259', instance);
  const initial = field(from, 'init_state');
  const pic = {
    irr: field(from, 'irr'),
    isr: field(from, 'isr'),
    imr: field(from, 'imr'),
    lines: field(from, 'last_irr'),
    elcr: field(from, 'elcr'),
    icw1:
      ICW1.base |
      (field(from, 'init4') ? ICW1.needsIcw4 : 0) |
      (field(from, 'single_mode') ? ICW1.single : 0) |
      (optionalField(from, 'ltim', 0) ? ICW1.level : 0),
    icw2: field(from, 'irq_base'),
    icw4:
      ICW4.x86 |
      (field(from, 'auto_eoi') ? ICW4.autoEoi : 0) |
      (field(from, 'special_fully_nested_mode') ? ICW4.nested : 0),
    // QEMU counts the words that have come, the virtual PC names the next.
    awaited: initial === 0 ? 0 : initial + 1,
    highest: field(from, 'priority_add') & 7,
    special_mask: field(from, 'special_mask') ? 1 : 0,
    rotate: field(from, 'rotate_on_auto_eoi') ? 1 : 0,
    read_isr: field(from, 'read_reg_select') ? 1 : 0,
    poll: field(from, 'poll') ? 1 : 0,
    reserved: 0,
  };
  return { ...pic, intr: requests(pic, instance === 0) ? 1 : 0 };
}

export const i8259Fields = (pic: I8259): Fields => {
  if (pic.icw1 & ICW1.level)
    throw new InputError('i8259: QEMU cannot make all of its inputs level-triggered (ICW1 bit 3)');
  return {
    irr: pic.irr,
    isr: pic.isr,
    imr: pic.imr,
    last_irr: pic.lines,
    elcr: pic.elcr,
    init4: pic.icw1 & ICW1.needsIcw4 ? 1 : 0,
    single_mode: pic.icw1 & ICW1.single ? 1 : 0,
    irq_base: pic.icw2,
    auto_eoi: pic.icw4 & ICW4.autoEoi ? 1 : 0,
    special_fully_nested_mode: pic.icw4 & ICW4.nested ? 1 : 0,
    init_state: pic.awaited === 0 ? 0 : pic.awaited - 1,
    priority_add: pic.highest,
    special_mask: pic.special_mask,
    rotate_on_auto_eoi: pic.rotate,
    read_reg_select: pic.read_isr,
    poll: pic.poll,
  };
};

/* --- i8254 --- */

const HERTZ = 1_193_182n;

/** Whole clocks within nanoseconds, and the shortest time that holds so many clocks (wedge/devices/clock.h). */
const clocksFromTime = (time: bigint, hertz: bigint): bigint => (time * hertz) / SECOND;
const timeFromClocks = (clocks: bigint, hertz: bigint): bigint => (clocks * SECOND + hertz - 1n) / hertz;

export const isPeriodic = ({ mode }: { readonly mode: number }): boolean => mode === 2 || mode === 3;
/** Nanoseconds. */
export const periodTime = ({ period }: Channel): bigint => timeFromClocks(BigInt(period), HERTZ);

/** Rising edges of a periodic channel's OUT from its load to a guest time in nanoseconds. */
export const edgesAt = ({ start, period }: Channel, time: bigint): bigint =>
  clocksFromTime(time - start, HERTZ) / BigInt(period);
const access = { low: 1, high: 2, both: 3, second: 4 } as const;

/** Modes 6 and 7 are 2 and 3 (data sheet, figure 7). */
const modeOf = (bits: number): number => (bits > 5 ? bits & 3 : bits);

/**
 * Rising edges of OUT that have been passed on, when QEMU's timer is due next at
 * `next`. In mode 2 that timer goes off at each multiple of the period and one
 * clock behind it, and only then OUT rises; in mode 3 at the edge itself.
 */
function edgesBefore(mode: number, period: bigint, start: bigint, next: bigint): bigint {
  if (!isPeriodic({ mode })) return next < 0n ? 1n : 0n;
  // QEMU rounds times down to whole nanoseconds: the nearest clock is the one it meant.
  const clocks = ((next - start) * HERTZ + SECOND / 2n) / SECOND;
  const pending = clocks - (mode === 2 ? 2n : 1n);
  return pending < 0n ? 0n : pending / period;
}

function channelOf(from: Section, index: number, now: bigint): Channel {
  const name = (part: string): string => `channels[${index}].${part}`;
  const get = (part: string): number => field(from, name(part));
  const start = wideField(from, name('count_load_time'));
  const mode = modeOf(get('mode') & 7);
  const period = get('count');
  if (period < 1 || period > 0x1_0000)
    throw new InputError(`QEMU stream: section i8254: channel ${index} counts from ${period}`);
  if (start < 0n || start > now)
    throw new InputError(`QEMU stream: section i8254: channel ${index} was loaded in the future`);
  const rw = get('rw_mode') & 3;
  const gate = get('gate') ? 1 : 0;
  const latch = get('count_latched');
  const needsTrigger = mode === 1 || mode === 5;
  const next = index === 0 ? wideField(from, name('next_transition_time')) : -1n;
  const readHigh =
    latch === 0 ? get('read_state') === access.second : rw === access.both && latch === access.high;
  return {
    start,
    held: gate || needsTrigger ? 0n : now - start,
    reload_at: NEVER,
    edges: index === 0 ? edgesBefore(mode, BigInt(period), start, next) : 0n,
    period,
    count: period & 0xffff,
    latch: get('latched_count'),
    mode,
    bcd: get('bcd') ? 1 : 0,
    access: rw,
    gate,
    written: 1,
    loaded: 1,
    running: gate || needsTrigger ? 1 : 0,
    null_count: 0,
    reload_low: 0,
    write_low: get('write_latch'),
    write_high: get('write_state') === access.second ? 1 : 0,
    read_high: readHigh ? 1 : 0,
    latched: latch === 0 ? 0 : latch === access.both ? 2 : 1,
    status: get('status'),
    status_latched: get('status_latched') ? 1 : 0,
    reserved: 0,
  };
}

/** Timers are due at once: that is how they find out when they really are. */
export function i8254Of(stream: MigrationStream, now: bigint): I8254 {
  const from = sectionOf(stream, 'i8254');
  if (field(from, 'channels[0].irq_disabled') !== 0)
    throw new InputError('the guest cannot be taken over: its timer interrupts come from an HPET');
  return {
    channels: [0, 1, 2].map((index) => channelOf(from, index, now)),
    deadline: now,
    backlog: 0,
    reserved: 0,
  };
}

/** When OUT falls before the first rising edge that has not been passed on; of edges long past, the last. */
function nextTransition(channel: Channel, start: bigint, now: bigint): bigint {
  const period = BigInt(channel.period);
  if (!channel.loaded) return -1n;
  if (!isPeriodic(channel)) return channel.edges ? -1n : start + timeFromClocks(period, HERTZ);
  const total = edgesAt({ ...channel, start }, now);
  const edges = channel.edges < total - 1n ? total - 1n : channel.edges;
  const low = channel.mode === 2 ? period - 1n : (period + 1n) / 2n;
  return start + timeFromClocks(edges * period + low, HERTZ);
}

function channelFields(channel: Channel, index: number, now: bigint): Fields {
  // A count that waits for the end of the cycle takes effect at once in QEMU.
  const reloads = channel.reload_at !== NEVER;
  const start = reloads ? now : channel.running ? channel.start : now - channel.held;
  const current: Channel = reloads ? { ...channel, period: channel.count || 0x1_0000, edges: 0n } : channel;
  const both = channel.access === access.both;
  const state = (second: number): number => (both && second ? access.second : channel.access);
  const latched = !channel.latched
    ? 0
    : !both
      ? channel.access
      : channel.latched === 2
        ? access.both
        : channel.read_high
          ? access.high
          : access.low;
  const values: Fields = {
    count: current.period,
    latched_count: channel.latch,
    count_latched: latched,
    status_latched: channel.status_latched,
    status: channel.status,
    read_state: channel.latched ? channel.access : state(channel.read_high),
    write_state: state(channel.write_high),
    write_latch: channel.write_low,
    rw_mode: channel.access,
    mode: channel.mode,
    bcd: channel.bcd,
    gate: channel.gate,
    count_load_time: start,
    next_transition_time: index === 0 ? nextTransition(current, start, now) : -1n,
  };
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [`channels[${index}].${name}`, value]),
  );
}

export const i8254Fields = ({ channels }: I8254, now: bigint): Fields =>
  Object.assign({}, ...channels.map((channel, index) => channelFields(channel, index, now)));

/* --- MC146818 --- */

const CRYSTAL = 32_768n;
/** Nanoseconds from the origin of the virtual PC's clock to 1970 (wedge/devices/mc146818.c). */
const ORIGIN = 104_166n * 86_400n * SECOND;
const REGISTER = { a: 10, b: 11, c: 12 } as const;
const UPDATE_IN_PROGRESS = 0x80;

/** Shift from 32768 Hz to the periodic rate; undefined: there is none. */
function periodicShift(ram: Uint8Array): bigint {
  const rate = ram[REGISTER.a]! & 15;
  return BigInt(rate === 0 ? 0 : rate <= 2 ? rate + 6 : rate - 1);
}

/** QEMU's clock is the host's wall clock too, from `last_update` on. */
export function mc146818Of(stream: MigrationStream, now: bigint, wallTime: bigint): Mc146818 {
  const from = sectionOf(stream, 'mc146818rtc');
  const ram = Uint8Array.from(fieldBytes(from, 'cmos_data'));
  ram[REGISTER.a]! &= ~UPDATE_IN_PROGRESS;
  const offset = BigInt.asIntN(
    64,
    wideField(from, 'base_rtc') * SECOND - wideField(from, 'last_update') + wideField(from, 'offset'),
  );
  return {
    offset,
    second: BigInt.asUintN(64, (wallTime + offset + ORIGIN) / SECOND),
    periodic: clocksFromTime(now, CRYSTAL) >> periodicShift(ram),
    deadline: now,
    ram,
    index: field(from, 'cmos_index') & 0x7f,
    reserved: new Uint8Array(7),
  };
}

/** `wallTime`: about when QEMU takes it up; its timers are due then, and set themselves anew. */
export function mc146818Fields(rtc: Mc146818, wallTime: bigint): Fields {
  const time = wallTime + rtc.offset;
  const second = time / SECOND;
  return {
    cmos_data: rtc.ram,
    cmos_index: rtc.index,
    next_periodic_time: 0n,
    base_rtc: second,
    last_update: wallTime,
    offset: time - second * SECOND,
    update_timer: wallTime + SECOND - (time - second * SECOND),
    next_alarm_time: 2n ** 63n - 1n,
  };
}

/* --- 16550A --- */

const IER = { received: 1, transmitted: 2, line: 4, modem: 8 } as const;
const IIR = {
  none: 1,
  modem: 0,
  transmitted: 2,
  received: 4,
  line: 6,
  timeout: 12,
  id: 6,
  fifo: 0xc0,
} as const;
const FIFO = 16;
const FCR_KEPT = 0xc9;

/** A subsection's field has the path of the structure that it belongs to. */
const SERIAL = 'state.';

export function uartOf(stream: MigrationStream): Uart {
  const from = sectionOf(stream, 'serial');
  const get = (name: string): number => field(from, SERIAL + name);
  const optional = (name: string, otherwise: number): number => optionalField(from, SERIAL + name, otherwise);
  if (optional('tsr_retry', 0) !== 0 || optional('xmit_fifo.num', 0) !== 0)
    throw new InputError(
      'the guest cannot be taken over: its serial port still sends',
      'let its console be read, then try again',
    );
  const fcr = get('fcr_vmstate');
  const iir = get('iir');
  const fifo = new Uint8Array(FIFO);
  const held = hasField(from, `${SERIAL}recv_fifo.num`);
  const length = held ? get('recv_fifo.num') : 0;
  const head = held ? get('recv_fifo.head') : 0;
  if (length > FIFO || head >= FIFO)
    throw new InputError('QEMU stream: section serial: a FIFO beyond its size');
  if (held) fifo.set(fieldBytes(from, `${SERIAL}recv_fifo.data`).subarray(0, FIFO));
  const thre = (get('ier') & IER.transmitted) !== 0 && (iir & IIR.id) === IIR.transmitted ? 1 : 0;
  const timeout = hasField(from, `${SERIAL}fifo_timeout_timer`)
    ? wideField(from, `${SERIAL}fifo_timeout_timer`)
    : NEVER;
  return {
    deadline: timeout,
    rbr: get('rbr'),
    ier: get('ier'),
    fcr: fcr & 1 ? fcr & FCR_KEPT : 0,
    lcr: get('lcr'),
    mcr: get('mcr') & 0x1f,
    lsr: get('lsr'),
    msr: get('msr'),
    scr: get('scr'),
    dll: get('divider') & 0xff,
    dlm: get('divider') >> 8,
    thre_pending: optional('thr_ipending', thre) ? 1 : 0,
    timeout_pending: optional('timeout_ipending', 0) ? 1 : 0,
    head,
    length,
    reserved: new Uint8Array(2),
    fifo,
  };
}

/** The interrupt of highest priority (data sheet, table V). */
function interruptId(uart: Uart): number {
  const level = uart.fcr & 1 ? [1, 4, 8, 14][uart.fcr >> 6]! : 1;
  const received = (uart.lsr & 1) !== 0 && ((uart.fcr & 1) === 0 || uart.length >= level);
  if (uart.ier & IER.line && uart.lsr & 0x1e) return IIR.line;
  if (uart.ier & IER.received && uart.timeout_pending) return IIR.timeout;
  if (uart.ier & IER.received && received) return IIR.received;
  if (uart.ier & IER.transmitted && uart.thre_pending) return IIR.transmitted;
  if (uart.ier & IER.modem && uart.msr & 0xf) return IIR.modem;
  return IIR.none;
}

export const uartFields = (uart: Uart): Fields =>
  Object.fromEntries(
    Object.entries({
      divider: (uart.dlm << 8) | uart.dll,
      rbr: uart.rbr,
      ier: uart.ier,
      iir: interruptId(uart) | (uart.fcr & 1 ? IIR.fifo : 0),
      lcr: uart.lcr,
      mcr: uart.mcr,
      lsr: uart.lsr,
      msr: uart.msr,
      scr: uart.scr,
      fcr_vmstate: uart.fcr,
    }).map(([name, value]) => [SERIAL + name, value]),
  );

const words = (values: readonly number[]): Uint8Array => {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, index) => {
    bytes.writeUInt32BE(value, 4 * index);
  });
  return bytes;
};

/** What its section has only if it is so. */
export function uartSubsections(uart: Uart): NewSubsection[] {
  const part = (name: string, type: string, bytes: Uint8Array): NewSubsection => ({
    name: `serial/${name}`,
    version: 1,
    fields: [{ name: SERIAL + name, type, bytes }],
  });
  const parts: NewSubsection[] = [];
  if (uart.ier & IER.transmitted) parts.push(part('thr_ipending', 'int32', words([uart.thre_pending])));
  if (uart.length > 0)
    parts.push({
      name: 'serial/recv_fifo',
      version: 1,
      fields: [
        { name: `${SERIAL}recv_fifo.data`, type: 'buffer', bytes: uart.fifo },
        { name: `${SERIAL}recv_fifo.head`, type: 'uint32', bytes: words([uart.head]) },
        { name: `${SERIAL}recv_fifo.num`, type: 'uint32', bytes: words([uart.length]) },
      ],
    });
  if (uart.timeout_pending) parts.push(part('timeout_ipending', 'int32', words([1])));
  if (uart.deadline !== NEVER) {
    const due = Buffer.alloc(8);
    due.writeBigUInt64BE(uart.deadline);
    parts.push(part('fifo_timeout_timer', 'timer', due));
  }
  return parts;
}

/* --- The board --- */

const PORT_61 = { gate: 1, speaker: 2 } as const;

export function systemPortsOf(stream: MigrationStream): SystemPorts {
  const gate = field(sectionOf(stream, 'i8254'), 'channels[2].gate') ? PORT_61.gate : 0;
  const speaker = field(sectionOf(stream, 'pcspk'), 'data_on') ? PORT_61.speaker : 0;
  const bridge = stream.sections.find(({ name }) => name.endsWith('/PIIX3'));
  return {
    port_61: gate | speaker,
    port_92: field(sectionOf(stream, 'port92'), 'outport'),
    port_cf9: bridge ? optionalField(bridge, 'rcr', 0) & 2 : 0,
    reserved: new Uint8Array(5),
  };
}

export const speakerFields = ({ port_61 }: SystemPorts): Fields => ({
  data_on: port_61 & PORT_61.speaker ? 1 : 0,
});
