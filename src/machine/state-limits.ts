/**
 * What fields of a machine state may hold, where a wedge would otherwise count,
 * shift, divide or index by them and go wrong. Everything else is the guest's own affair.
 */

import { InputError } from '../elf/input-error.ts';
import { FPU_FORMAT, FPU_SIZE, type MachineState } from './state.ts';

interface Limit {
  readonly note: string;
  readonly field: string;
  /** All values that have to keep it. */
  readonly of: (state: MachineState) => readonly number[];
  readonly holds: (value: number) => boolean;
}

const within =
  (least: number, most: number) =>
  (value: number): boolean =>
    value >= least && value <= most;

const oneOf =
  (...values: readonly number[]) =>
  (value: number): boolean =>
    values.includes(value);

const isPowerOfTwo = (value: number): boolean => value > 0 && (value & (value - 1)) === 0;

type Devices = MachineState['devices'];

const cpu = (field: 'cpl' | 'interrupt_flag', holds: Limit['holds']): Limit => ({
  note: 'cpu',
  field,
  of: (state) => [state.cpu[field]],
  holds,
});

const pic = (field: 'highest' | 'awaited', holds: Limit['holds']): Limit => ({
  note: 'i8259',
  field,
  of: ({ devices }) => devices.i8259.map((chip) => chip[field]),
  holds,
});

type Channel = Devices['i8254']['channels'][number];

const counter = (
  field: keyof Channel & ('mode' | 'access' | 'latched' | 'period'),
  holds: Limit['holds'],
): Limit => ({
  note: 'i8254',
  field,
  of: ({ devices }) => devices.i8254.channels.map((channel) => channel[field]),
  holds,
});

const uart = (field: 'head' | 'length', most: number): Limit => ({
  note: 'uart16550',
  field,
  of: ({ devices }) => [devices.uart16550[field]],
  holds: within(0, most),
});

const LIMITS: readonly Limit[] = [
  {
    note: 'fpu',
    field: 'fpu_format',
    of: (state) => [state.fpu_format],
    holds: oneOf(...Object.values(FPU_FORMAT)),
  },
  { note: 'fpu', field: 'fpu_size', of: (state) => [state.fpu_size], holds: within(512, FPU_SIZE) },
  cpu('cpl', within(0, 3)),
  cpu('interrupt_flag', oneOf(0, 0x200)),
  pic('highest', within(0, 7)),
  pic('awaited', oneOf(0, 2, 3, 4)),
  counter('mode', within(0, 5)),
  counter('access', within(0, 3)),
  counter('latched', within(0, 2)),
  counter('period', within(1, 65_536)),
  { note: 'mc146818', field: 'index', of: ({ devices }) => [devices.mc146818.index], holds: within(0, 127) },
  uart('head', 15),
  uart('length', 16),
  {
    note: 'virtio_blk',
    field: 'queue_size',
    of: ({ devices }) => [devices.virtio_blk.queue_size],
    holds: isPowerOfTwo,
  },
];

/** @throws InputError that names note and field */
export function checkLimits(state: MachineState): void {
  for (const { note, field, of, holds } of LIMITS) {
    const wrong = of(state).find((value) => !holds(value));
    if (wrong !== undefined) throw new InputError(`note ${note}: ${field} cannot be ${wrong}`);
  }
}
