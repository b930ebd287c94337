/**
 * Layouts that TypeScript and the wedge's C share, described once as data.
 * Fields lie at naturally aligned offsets in the order given, exactly as the
 * System V ABI lays out the generated C struct on both i386 and x86-64; a
 * 64-bit field must therefore stand at a multiple of 8, which `defineStruct`
 * checks, because the two ABIs disagree on its alignment.
 */

export const SCALARS = {
  u8: { size: 1, c: 'u8' },
  u16: { size: 2, c: 'u16' },
  u32: { size: 4, c: 'u32' },
  u64: { size: 8, c: 'u64' },
  s64: { size: 8, c: 's64' },
} as const;

export type Scalar = keyof typeof SCALARS;
export type FieldType = Scalar | readonly [Scalar, number] | StructLayout | readonly [StructLayout, number];

export interface Field {
  readonly name: string;
  readonly type: FieldType;
  /** Offset from the start of the struct in bytes. */
  readonly offset: number;
  readonly size: number;
  readonly comment: string;
}

export interface StructLayout {
  readonly name: string;
  readonly comment: string;
  readonly size: number;
  readonly align: number;
  readonly fields: readonly Field[];
}

export type FieldSpec = readonly [name: string, type: FieldType, comment: string];

function shape(type: FieldType): { size: number; align: number } {
  if (typeof type === 'string') return { size: SCALARS[type].size, align: SCALARS[type].size };
  if ('fields' in type) return { size: type.size, align: type.align };
  const element = shape(type[0]);
  return { size: element.size * type[1], align: element.align };
}

/** @throws RangeError if a field would need padding in front of it: pad by hand, so that the layout is visible. */
export function defineStruct(name: string, comment: string, specs: readonly FieldSpec[]): StructLayout {
  let offset = 0;
  let align = 1;
  const fields: Field[] = [];
  for (const [fieldName, type, fieldComment] of specs) {
    const { size, align: fieldAlign } = shape(type);
    if (offset % fieldAlign !== 0)
      throw new RangeError(`${name}.${fieldName}: offset ${offset} is not a multiple of ${fieldAlign}`);
    fields.push({ name: fieldName, type, offset, size, comment: fieldComment });
    offset += size;
    align = Math.max(align, fieldAlign);
  }
  if (offset % align !== 0) throw new RangeError(`${name}: size ${offset} is not a multiple of ${align}`);
  return { name, comment, size: offset, align, fields };
}

/** Offset of a field in bytes. @throws RangeError if there is no such field. */
export function offsetOf(layout: StructLayout, field: string): number {
  const found = layout.fields.find((candidate) => candidate.name === field);
  if (!found) throw new RangeError(`${layout.name} has no field ${field}`);
  return found.offset;
}

function declaration(field: Field): string {
  const { type, name } = field;
  if (typeof type === 'string') return `${SCALARS[type].c} ${name};`;
  if ('fields' in type) return `struct ${type.name} ${name};`;
  const element = type[0];
  const base = typeof element === 'string' ? SCALARS[element].c : `struct ${element.name}`;
  return `${base} ${name}[${type[1]}];`;
}

/** The C declaration, with assertions that the compiler's layout is this one. */
export function cStruct(layout: StructLayout): string {
  const lines = [`/* ${layout.comment} */`, `struct ${layout.name} {`];
  for (const field of layout.fields)
    lines.push(`    ${declaration(field)}${field.comment ? ` /* ${field.comment} */` : ''}`);
  lines.push('};');
  lines.push(`_Static_assert(sizeof(struct ${layout.name}) == ${layout.size}, "${layout.name}");`);
  for (const field of layout.fields)
    lines.push(
      `_Static_assert(__builtin_offsetof(struct ${layout.name}, ${field.name}) == ${field.offset}, "${layout.name}.${field.name}");`,
    );
  return `${lines.join('\n')}\n`;
}

/** Offsets as preprocessor constants, for assembly: `#define VCPU_EFLAGS 0x10`. */
export function cOffsets(layout: StructLayout): string {
  const prefix = layout.name.toUpperCase();
  return layout.fields
    .map((field) => `#define ${prefix}_${field.name.toUpperCase()} 0x${field.offset.toString(16)}\n`)
    .join('');
}
