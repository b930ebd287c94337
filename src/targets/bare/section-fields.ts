/** Reads and replaces fields of a section of a migration stream, by name. */

import { InputError } from '../../elf/input-error.ts';
import type { DescribedDevice } from './migration-description.ts';
import { layoutOf, withFieldSize } from './migration-description.ts';
import { encodeSubsection, type MigrationStream, type Section } from './migration-stream.ts';

const isSigned = (type: string): boolean => type.startsWith('int');

const bufferOf = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);

/** @throws InputError if this QEMU's stream has no such section */
export function sectionOf({ sections }: MigrationStream, name: string, instance = 0): Section {
  const found = sections.find((section) => section.name === name && section.instance === instance);
  if (!found)
    throw new InputError(
      `QEMU stream: there is no section ${name}`,
      'is it of the machine that previrt starts?',
    );
  return found;
}

/** The bytes of a field. @throws InputError if the section has none of this name */
export function fieldBytes({ name, bytes, layout }: Section, field: string): Uint8Array {
  const place = layout.fields.get(field);
  if (!place) throw new InputError(`QEMU stream: section ${name} has no field ${field}`);
  return bytes.subarray(place.offset, place.offset + place.size);
}

export const hasField = ({ layout }: Section, field: string): boolean => layout.fields.has(field);

/** An integer of up to 64 bits. @throws InputError if there is none of this name */
export function wideField(section: Section, field: string): bigint {
  const bytes = bufferOf(fieldBytes(section, field));
  if (bytes.length === 0 || bytes.length > 8)
    throw new InputError(`QEMU stream: field ${field} of section ${section.name} is no integer`);
  const value = BigInt(`0x${bytes.toString('hex')}`);
  return isSigned(section.layout.fields.get(field)!.type) ? BigInt.asIntN(8 * bytes.length, value) : value;
}

/** An integer of up to 32 bits. */
export const field = (section: Section, name: string): number => Number(wideField(section, name));

/** Of a subsection, which is there only if it says something: otherwise `otherwise`. */
export const optionalField = (section: Section, name: string, otherwise: number): number =>
  hasField(section, name) ? field(section, name) : otherwise;

export type FieldValue = number | bigint | Uint8Array;

/** The section with other values in some fields. @throws InputError if it lacks one of them, or the size differs */
export function withFields(section: Section, values: Readonly<Record<string, FieldValue>>): Section {
  const bytes = Uint8Array.from(section.bytes);
  for (const [name, value] of Object.entries(values)) {
    const place = fieldBytes({ ...section, bytes }, name);
    if (value instanceof Uint8Array) {
      if (value.length !== place.length)
        throw new InputError(
          `QEMU stream: field ${name} of section ${section.name} has ${place.length} bytes`,
        );
      place.set(value);
    } else {
      const hex = BigInt.asUintN(8 * place.length, BigInt(value)).toString(16);
      place.set(Buffer.from(hex.padStart(2 * place.length, '0'), 'hex'));
    }
  }
  return { ...section, bytes };
}

/** A subsection that a template lacks. */
export interface NewSubsection {
  readonly name: string;
  readonly version: number;
  readonly fields: readonly { readonly name: string; readonly type: string; readonly bytes: Uint8Array }[];
}

/** The device with a subsection more, at its end. */
export function withSubsection(
  section: Section,
  device: DescribedDevice,
  { name, version, fields }: NewSubsection,
): readonly [Section, DescribedDevice] {
  const contents = Buffer.concat(fields.map(({ bytes }) => bytes));
  const bytes = Buffer.concat([section.bytes, encodeSubsection(name, version, contents)]);
  const described = {
    vmsd_name: name,
    version,
    fields: fields.map((one) => ({ name: one.name, type: one.type, size: one.bytes.length })),
  };
  const changed = { ...device, subsections: [...(device.subsections ?? []), described] };
  return [{ ...section, bytes, layout: layoutOf(changed, bytes.length) }, changed];
}

/** The device with other contents, all of them one opaque field. */
export function withContents(
  section: Section,
  device: DescribedDevice,
  name: string,
  bytes: Uint8Array,
): readonly [Section, DescribedDevice] {
  const changed = withFieldSize(device, name, bytes.length);
  return [{ ...section, bytes, layout: layoutOf(changed, bytes.length) }, changed];
}
