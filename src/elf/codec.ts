/**
 * Reads and writes little-endian structures from their layout. Everything is
 * bounds-checked: the files are a stranger's.
 *
 * A 64-bit field is read as a *signed* number, so that both file offsets and
 * the canonical addresses at the top of the address space are exact; a value
 * beyond 2^53 either way can be neither, and is refused.
 */

import type { Field, Scalar, StructLayout } from '../x86/struct.ts';
import { InputError } from './input-error.ts';

export const viewOf = (bytes: Uint8Array): DataView =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);

const READ: Record<Scalar, (view: DataView, offset: number) => number> = {
  u8: (view, offset) => view.getUint8(offset),
  u16: (view, offset) => view.getUint16(offset, true),
  u32: (view, offset) => view.getUint32(offset, true),
  u64: readWide,
  s64: readWide,
};

const WRITE: Record<Scalar, (view: DataView, offset: number, value: number) => void> = {
  u8: (view, offset, value) => view.setUint8(offset, value),
  u16: (view, offset, value) => view.setUint16(offset, value, true),
  u32: (view, offset, value) => view.setUint32(offset, value, true),
  u64: writeWide,
  s64: writeWide,
};

function readWide(view: DataView, offset: number): number {
  const value = view.getInt32(offset + 4, true) * 2 ** 32 + view.getUint32(offset, true);
  if (!Number.isSafeInteger(value))
    throw new InputError(`64-bit field at file offset 0x${offset.toString(16)} holds no usable value`);
  return value;
}

function writeWide(view: DataView, offset: number, value: number): void {
  view.setBigInt64(offset, BigInt(value), true);
}

/** A structure's value: numbers, and bytes for arrays of u8. */
export type StructValue = { readonly [field: string]: number | Uint8Array };

function readField(field: Field, view: DataView, offset: number): number | Uint8Array {
  if (typeof field.type === 'string') return READ[field.type](view, offset);
  if ('fields' in field.type || field.type[0] !== 'u8')
    throw new TypeError(`${field.name}: only scalars and arrays of u8 are read`);
  return new Uint8Array(view.buffer, view.byteOffset + offset, field.size).slice();
}

/**
 * `T` names the fields of `layout`. `what` names the structure in the error.
 * @throws InputError if it does not lie inside the view.
 */
export function readStruct<T extends object>(
  layout: StructLayout,
  view: DataView,
  offset: number,
  what: string,
): T {
  if (!(offset >= 0 && offset + layout.size <= view.byteLength))
    throw new InputError(
      `truncated: ${what} at offset 0x${offset.toString(16)} needs ${layout.size} bytes, the file ends at 0x${view.byteLength.toString(16)}`,
    );
  const value: Record<string, number | Uint8Array> = {};
  for (const field of layout.fields) value[field.name] = readField(field, view, offset + field.offset);
  return value as T;
}

/** @throws RangeError if it does not lie inside the view, TypeError if a field has no value. */
export function writeStruct(layout: StructLayout, view: DataView, offset: number, value: object): void {
  if (!(offset >= 0 && offset + layout.size <= view.byteLength))
    throw new RangeError(`${layout.name} does not fit at ${offset}`);
  for (const field of layout.fields) {
    const fieldValue = (value as StructValue)[field.name];
    if (typeof field.type === 'string' && typeof fieldValue === 'number')
      WRITE[field.type](view, offset + field.offset, fieldValue);
    else if (fieldValue instanceof Uint8Array && fieldValue.length === field.size)
      new Uint8Array(view.buffer, view.byteOffset + offset + field.offset, field.size).set(fieldValue);
    else throw new TypeError(`${layout.name}.${field.name}: no fitting value`);
  }
}
