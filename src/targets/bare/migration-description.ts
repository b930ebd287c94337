/**
 * The description that QEMU appends to a migration stream: which fields each
 * device's section has, in what order and how long (QEMU's
 * docs/devel/migration). It gives every field its place, so that none is known
 * by its offset here.
 */

import { InputError } from '../../elf/input-error.ts';

/** One field of a section, an element of an array by itself. All integers are big-endian. */
export interface StreamField {
  readonly name: string;
  /** QEMU's name of its type: `uint32`, `int64`, `buffer`, `timer`, ... */
  readonly type: string;
  /** From the start of the section's contents, in bytes. */
  readonly offset: number;
  readonly size: number;
}

/** The fields of a section by name; those of a subsection too. */
export interface SectionLayout {
  /** Bytes of the contents. */
  readonly size: number;
  readonly fields: ReadonlyMap<string, StreamField>;
}

interface DescribedField {
  readonly name: string;
  readonly type: string;
  /** Bytes, of one element if it is an array. */
  readonly size: number;
  readonly array_len?: number;
  /** Which element of an array this is, where their sizes differ. */
  readonly index?: number;
  readonly struct?: Described;
}

interface Described {
  readonly vmsd_name: string;
  readonly version: number;
  readonly fields?: readonly DescribedField[];
  readonly subsections?: readonly Described[];
}

export interface DescribedDevice extends Described {
  readonly name: string;
  readonly instance_id: number;
}

export interface Description {
  readonly page_size: number;
  readonly devices: readonly DescribedDevice[];
}

/** More than any PC has in one section, and in all of them. */
const MAX_FIELDS = 2 ** 16;
const MAX_DEPTH = 8;

/** Byte that a subsection starts with, length byte and version around its name. */
export const SUBSECTION_OVERHEAD = 6;

const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 && value < 2 ** 31;

const listOf = (value: unknown): readonly unknown[] | undefined =>
  value === undefined ? [] : Array.isArray(value) ? value : undefined;

/** @throws InputError if it is not made up as QEMU does; what it says of the sections is seen when they are read */
export function parseDescription(text: string): Description {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    throw new InputError('QEMU stream: its description is not JSON');
  }
  const wrong = (what: string): InputError => new InputError(`QEMU stream: its description has ${what}`);
  let count = 0;
  const check = (value: unknown, where: string, depth: number): void => {
    if (!isObject(value) || typeof value.vmsd_name !== 'string' || !isCount(value.version))
      throw wrong(`no name or version in ${where}`);
    if (depth > MAX_DEPTH) throw wrong(`too many levels in ${where}`);
    const fields = listOf(value.fields);
    const subsections = listOf(value.subsections);
    if (!fields || !subsections) throw wrong(`no list of fields in ${where}`);
    for (const field of fields) {
      if (++count > MAX_FIELDS) throw wrong('too many fields');
      const whole =
        isObject(field) &&
        typeof field.name === 'string' &&
        typeof field.type === 'string' &&
        isCount(field.size) &&
        [field.array_len, field.index].every((number) => number === undefined || isCount(number));
      if (!whole) throw wrong(`a malformed field in ${where}`);
      if (field.struct !== undefined) check(field.struct, where, depth + 1);
    }
    for (const subsection of subsections) check(subsection, where, depth + 1);
  };
  const devices = isObject(parsed) ? parsed.devices : undefined;
  if (!isObject(parsed) || !isCount(parsed.page_size) || !Array.isArray(devices)) throw wrong('no devices');
  for (const device of devices as unknown[]) {
    if (!isObject(device) || typeof device.name !== 'string' || !isCount(device.instance_id))
      throw wrong('a device without a name');
    check(device, device.name, 0);
  }
  return parsed as unknown as Description;
}

/**
 * Where the fields of a device lie in its section.
 * @param room bytes that the section can have
 * @throws InputError naming the section if it would be longer
 */
export function layoutOf(device: DescribedDevice, room: number): SectionLayout {
  const fields = new Map<string, StreamField>();
  const overlong = (): InputError => new InputError(`QEMU stream: section ${device.name} is truncated`);

  let steps = 0;
  const step = (): void => {
    if (++steps > MAX_FIELDS) throw new InputError(`QEMU stream: section ${device.name} has too many fields`);
  };
  const add = (field: StreamField, struct: Described | undefined): void => {
    if (field.offset + field.size > room) throw overlong();
    fields.set(field.name, field);
    if (!struct) return;
    const end = walk(struct, field.offset, `${field.name}.`);
    if (end !== field.offset + field.size)
      throw new InputError(`QEMU stream: the description of section ${device.name} contradicts itself`);
  };
  /** Returns where it ends. */
  const walk = ({ fields: described = [], subsections = [] }: Described, start: number, path: string) => {
    let offset = start;
    for (const { name, type, size, array_len, index, struct } of described) {
      step();
      if (array_len === undefined) {
        const element = index === undefined ? name : `${name}[${index}]`;
        add({ name: path + element, type, offset, size }, struct);
        offset += size;
        continue;
      }
      if (size === 0) continue; // However many there are.
      if (offset + array_len * size > room) throw overlong();
      for (let element = 0; element < array_len; element++, offset += size) {
        step();
        add({ name: `${path}${name}[${element}]`, type, offset, size }, struct);
      }
    }
    for (const subsection of subsections) {
      offset += SUBSECTION_OVERHEAD + Buffer.byteLength(subsection.vmsd_name);
      offset = walk(subsection, offset, path);
    }
    if (offset > room) throw overlong();
    return offset;
  };
  return { size: walk(device, 0, ''), fields };
}

/** The description of a device whose only opaque field `name` has another size now. */
export const withFieldSize = (device: DescribedDevice, name: string, size: number): DescribedDevice => ({
  ...device,
  fields: (device.fields ?? []).map((field) => (field.name === name ? { ...field, size } : field)),
});
