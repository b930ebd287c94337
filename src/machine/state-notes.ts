/**
 * The machine state as notes of an ELF core file: which there are, their numbers
 * and layouts. docs/machine-state.md describes the file.
 *
 * Never renumber one. A field that is added goes to the end of its note, a
 * device's to the end of its structure, and FORMAT_VERSION is raised: from an
 * older file what is missing is read as zeros.
 */

import { InputError } from '../elf/input-error.ts';
import type { Note } from '../elf/notes.ts';
import { decodeRecord, defineRecord, encodeRecord, type RecordLayout } from '../elf/record.ts';
import { CPU } from './cpu.ts';
import * as devices from './devices.ts';
import { FEATURE_WORDS, FPU_SIZE, type MachineState } from './state.ts';

export const NOTE_OWNER = 'previrt';
export const FORMAT_VERSION = 1;

export const STATE_HEADER = defineRecord('state_header', 'What kind of machine it is.', [
  ['format_version', 'u32', 'FORMAT_VERSION'],
  ['pc_version', 'u32', 'of the virtual PC'],
  ['ram_size', 'u64', 'bytes'],
  ['link_offset', 'u32', 'guest-virtual minus guest-physical address of the kernel, as linked'],
  ['domains', 'u32', 'bit 1 << DOMAINS for each whose sites are burned in RAM'],
]);

const TIME = defineRecord('state_time', 'Its clocks.', [
  ['time', 'u64', 'guest time: nanoseconds since power-on'],
  ['wall_time', 'u64', 'nanoseconds since 1970-01-01 00:00:00 UTC, when it stopped'],
  ['tsc', 'u64', 'what rdtsc would have read'],
]);

const FPU = defineRecord('state_fpu', 'x87, SSE and what follows.', [
  ['fpu_format', 'u32', 'FPU_FORMAT'],
  ['fpu_size', 'u32', 'bytes of it that count'],
  ['fpu', ['u8', FPU_SIZE], ''],
]);

const FEATURES = defineRecord('state_features', 'What user code could see of CPUID.', [
  ['features', ['u32', FEATURE_WORDS.length], 'FEATURE_WORDS'],
]);

/** Head of the patch table's note; the entries follow, the kernel's first. */
export const SITES_HEAD = defineRecord('state_sites', 'How many sites there are.', [
  ['site_count', 'u32', "the kernel's"],
  ['module_site_count', 'u32', "its modules'"],
]);

export const ENCODINGS = { plain: 0, deflate: 1 } as const;

/** The RAM map is an array of these, ascending by address and by offset. */
export const RAM_BLOCK = defineRecord('ram_block', 'Consecutive pages that are not zero.', [
  ['address', 'u64', 'guest-physical, of a page'],
  ['offset', 'u64', 'in the file'],
  ['size', 'u32', 'bytes of RAM, whole pages, BLOCK_SIZE at most'],
  ['stored', 'u32', 'bytes in the file'],
  ['checksum', 'u32', 'CRC-32 of the bytes in the file'],
  ['encoding', 'u32', 'ENCODINGS'],
]);

/** The last note. */
export const CHECKSUMS = defineRecord('state_checksums', 'CRC-32 of everything but RAM.', [
  ['notes', 'u32', 'of all notes before this one, their headers and padding included'],
  ['headers', 'u32', 'of the ELF header and then the program headers'],
]);

/** Types of previrt's notes that are not just a structure. */
export const NOTE_TYPES = { header: 1, sites: 6, ram: 7, checksums: 8 } as const;

/** Two interrupt controllers are one note. */
const I8259S = defineRecord('state_i8259', 'Both interrupt controllers.', [
  ['i8259', [devices.I8259, 2], 'master, slave'],
]);

type Part = Readonly<Record<string, unknown>>;

/** A note that is one structure, and where that is in the state. */
export interface StructureNote {
  readonly type: number;
  readonly name: string;
  readonly layout: RecordLayout<unknown>;
  readonly get: (state: MachineState) => unknown;
  /** What it says of the state. */
  readonly put: (value: unknown) => Part;
}

/** Its fields are the state's own. */
const fields = (type: number, name: string, layout: RecordLayout<unknown>): StructureNote => ({
  type,
  name,
  layout,
  get: (state) => state,
  put: (value) => value as Part,
});

/** A device. */
const device = (
  type: number,
  name: keyof MachineState['devices'],
  layout: RecordLayout<unknown>,
): StructureNote => ({
  type,
  name,
  layout,
  get: (state) => state.devices[name],
  put: (value) => ({ [name]: value }),
});

/** Of the state but for its devices; the header is the first note of all. */
export const STATE_NOTES: readonly StructureNote[] = [
  fields(2, 'time', TIME),
  { type: 3, name: 'cpu', layout: CPU, get: ({ cpu }) => cpu, put: (cpu) => ({ cpu }) },
  fields(4, 'fpu', FPU),
  fields(5, 'features', FEATURES),
];

export const DEVICE_NOTES: readonly StructureNote[] = [
  { ...device(16, 'i8259', I8259S), get: (state) => state.devices, put: (value) => value as Part },
  device(17, 'i8254', devices.I8254),
  device(18, 'mc146818', devices.MC146818),
  device(19, 'uart16550', devices.UART16550),
  device(20, 'pci', devices.PCI),
  device(21, 'virtio_blk', devices.VIRTIO_BLK),
  device(22, 'system', devices.SYSTEM_PORTS),
];

/** The notes of a state, but for RAM map, sites and checksums. */
export const structureNotes = (state: MachineState): Note[] => [
  {
    owner: NOTE_OWNER,
    type: NOTE_TYPES.header,
    bytes: encodeRecord(STATE_HEADER, { ...state, format_version: FORMAT_VERSION }),
  },
  ...[...STATE_NOTES, ...DEVICE_NOTES].map(({ type, layout, get }) => ({
    owner: NOTE_OWNER,
    type,
    bytes: encodeRecord(layout, get(state)),
  })),
];

/**
 * A note's structure.
 * @param older the file's format version is below ours: what it lacks is zero
 * @throws InputError if its size is not the structure's
 */
export function decodeNote<V>(layout: RecordLayout<V>, bytes: Uint8Array, name: string, older: boolean): V {
  const { size } = layout;
  if (bytes.length > size || (bytes.length < size && !older))
    throw new InputError(`note ${name} has ${bytes.length} bytes, not ${size}`);
  const whole = new Uint8Array(size);
  whole.set(bytes);
  return decodeRecord(layout, whole, 0, `note ${name}`);
}
