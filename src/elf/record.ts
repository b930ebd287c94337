/**
 * Structures whose TypeScript type follows from their layout, read and written
 * whole: structures and arrays inside them too, and 64-bit fields exactly, as
 * bigint. For everything that both a program and a file must keep unchanged.
 */

import {
  defineStruct,
  type FieldSpec,
  type FieldType,
  type Scalar,
  type StructLayout,
} from '../x86/struct.ts';
import { viewOf } from './codec.ts';
import { InputError } from './input-error.ts';

declare const value: unique symbol;

/** A layout that knows the type of its value. */
export interface RecordLayout<V> extends StructLayout {
  readonly [value]?: V;
}

type FieldValue<T> = T extends 'u64' | 's64'
  ? bigint
  : T extends Scalar
    ? number
    : T extends readonly ['u8', number]
      ? Uint8Array
      : T extends readonly [infer Element, number]
        ? readonly FieldValue<Element>[]
        : T extends RecordLayout<infer V>
          ? V
          : never;

type Fields<S extends readonly FieldSpec[]> = {
  readonly [Spec in S[number] as Spec[0]]: FieldValue<Spec[1]>;
};

/** The type of a layout's value. */
export type RecordOf<L> = L extends RecordLayout<infer V> ? V : never;

/** `defineStruct`, and the type with it. */
export const defineRecord = <const S extends readonly FieldSpec[]>(
  name: string,
  comment: string,
  specs: S,
): RecordLayout<Fields<S>> => defineStruct(name, comment, specs);

type Plain = number | bigint | Uint8Array | readonly Plain[] | { readonly [field: string]: Plain };

interface ScalarCodec {
  readonly size: number;
  read(view: DataView, offset: number): number | bigint;
  write(view: DataView, offset: number, value: Plain): void;
}

// What does not fit is cut off as C would: the layouts' own makers see to the ranges.
const SCALAR: Record<Scalar, ScalarCodec> = {
  u8: {
    size: 1,
    read: (view, at) => view.getUint8(at),
    write: (view, at, field) => view.setUint8(at, field as number),
  },
  u16: {
    size: 2,
    read: (view, at) => view.getUint16(at, true),
    write: (view, at, field) => view.setUint16(at, field as number, true),
  },
  u32: {
    size: 4,
    read: (view, at) => view.getUint32(at, true),
    write: (view, at, field) => view.setUint32(at, field as number, true),
  },
  u64: {
    size: 8,
    read: (view, at) => view.getBigUint64(at, true),
    write: (view, at, field) => view.setBigUint64(at, field as bigint, true),
  },
  s64: {
    size: 8,
    read: (view, at) => view.getBigInt64(at, true),
    write: (view, at, field) => view.setBigInt64(at, field as bigint, true),
  },
};

const bytesAt = (view: DataView, offset: number, size: number): Uint8Array =>
  new Uint8Array(view.buffer, view.byteOffset + offset, size);

const sizeOf = (type: Scalar | StructLayout): number =>
  typeof type === 'string' ? SCALAR[type].size : type.size;

function read(type: FieldType, view: DataView, offset: number): Plain {
  if (typeof type === 'string') return SCALAR[type].read(view, offset);
  if ('fields' in type)
    return Object.fromEntries(
      type.fields.map((field) => [field.name, read(field.type, view, offset + field.offset)]),
    );
  const [element, count] = type;
  if (element === 'u8') return bytesAt(view, offset, count).slice();
  return Array.from({ length: count }, (_, index) => read(element, view, offset + index * sizeOf(element)));
}

function write(
  type: FieldType,
  view: DataView,
  offset: number,
  what: string,
  given: Plain | undefined,
): void {
  if (given === undefined) throw new TypeError(`${what} has no value`);
  if (typeof type === 'string') SCALAR[type].write(view, offset, given);
  else if ('fields' in type)
    for (const field of type.fields)
      write(
        field.type,
        view,
        offset + field.offset,
        `${what}.${field.name}`,
        (given as { [field: string]: Plain })[field.name],
      );
  else {
    const [element, count] = type;
    const items = given as Uint8Array | readonly Plain[];
    if (items.length !== count) throw new TypeError(`${what}: ${items.length} elements, not ${count}`);
    if (items instanceof Uint8Array) bytesAt(view, offset, count).set(items);
    else
      items.forEach((item, index) => {
        write(element, view, offset + index * sizeOf(element), `${what}[${index}]`, item);
      });
  }
}

/** @throws InputError if it does not lie inside the bytes; `what` names it there. */
export function decodeRecord<V>(layout: RecordLayout<V>, bytes: Uint8Array, offset: number, what: string): V {
  if (!(offset >= 0 && offset + layout.size <= bytes.length))
    throw new InputError(`truncated: ${what} needs ${layout.size} bytes at ${offset} of ${bytes.length}`);
  return read(layout, viewOf(bytes), offset) as V;
}

/** @throws TypeError if a field has no value of its type. */
export function encodeRecord<V>(layout: RecordLayout<V>, given: V): Uint8Array {
  const bytes = new Uint8Array(layout.size);
  write(layout, viewOf(bytes), 0, layout.name, given as Plain);
  return bytes;
}

/** All fields 0. */
export const zeroRecord = <V>(layout: RecordLayout<V>): V =>
  decodeRecord(layout, new Uint8Array(layout.size), 0, layout.name);
