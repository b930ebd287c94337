/**
 * What replaces a site: bytes with relocations, made here as data. `burn`
 * applies them to files; the wedge applies the same to running code.
 *
 * Every template is one instruction as long as the slot, by redundant CS
 * prefixes, so that no address inside a slot ever becomes an instruction boundary.
 */

import type { GuestVirtual } from '../x86/address.ts';

/**
 *   relative  call rel32; works only at the address it was made for
 *   absolute  call *disp32 through a pointer; works wherever it is copied
 */
export type Form = 'relative' | 'absolute';

export interface Template {
  readonly bytes: Uint8Array;
  readonly relocations: readonly Relocation[];
}

/**
 *   pc32   target - (address of the field + 4), as R_386_PC32 with addend -4
 *   abs32  target, as R_386_32
 */
export interface Relocation {
  /** Of the 4-byte field in the template. */
  readonly offset: number;
  readonly type: 'pc32' | 'abs32';
  readonly target: GuestVirtual;
}

/** What a call is widened with. */
export const CS_PREFIX = 0x2e;

export const FORMS = {
  relative: { opcode: [0xe8], type: 'pc32' }, // CALL rel32
  absolute: { opcode: [0xff, 0x15], type: 'abs32' }, // CALL m32, ModRM: disp32
} as const satisfies Record<Form, { opcode: readonly number[]; type: Relocation['type'] }>;

/**
 * A call that fills a slot of `length` bytes.
 * @param target the function for `relative`, the pointer to it for `absolute`
 * @throws RangeError if the slot is too short
 */
export function callTemplate(form: Form, target: GuestVirtual, length: number): Template {
  const { opcode, type } = FORMS[form];
  const prefixes = length - opcode.length - 4;
  if (prefixes < 0) throw new RangeError(`no ${form} call fits ${length} bytes`);
  const bytes = new Uint8Array(length).fill(CS_PREFIX, 0, prefixes);
  bytes.set(opcode, prefixes);
  return { bytes, relocations: [{ offset: length - 4, type, target }] };
}

/** The bytes of a template at an address. */
export function instantiate(template: Template, address: GuestVirtual): Uint8Array {
  const out = new Uint8Array(template.bytes);
  const view = new DataView(out.buffer);
  for (const { offset, type, target } of template.relocations)
    view.setUint32(offset, type === 'pc32' ? target - (address + offset + 4) : target, true);
  return out;
}
