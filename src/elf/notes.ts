/** Notes: named, typed descriptors in a PT_NOTE segment (gABI chapter 5, "Note Section"). */

import { readStruct, viewOf, writeStruct } from './codec.ts';
import { InputError } from './input-error.ts';
import { ELF_NHDR } from './structs.ts';

export interface Note {
  /** Who defined the type. */
  readonly owner: string;
  readonly type: number;
  readonly bytes: Uint8Array;
}

/** A note and where it began in its segment. */
export interface PlacedNote extends Note {
  readonly offset: number;
}

const align = (size: number): number => Math.ceil(size / 4) * 4;

export function encodeNote({ owner, type, bytes }: Note): Uint8Array {
  const name = Buffer.from(`${owner}\0`, 'latin1');
  const out = new Uint8Array(ELF_NHDR.size + align(name.length) + align(bytes.length));
  writeStruct(ELF_NHDR, viewOf(out), 0, { n_namesz: name.length, n_descsz: bytes.length, n_type: type });
  out.set(name, ELF_NHDR.size);
  out.set(bytes, ELF_NHDR.size + align(name.length));
  return out;
}

interface NoteHeader {
  readonly n_namesz: number;
  readonly n_descsz: number;
  readonly n_type: number;
}

/** More than any file has that means well. */
const MOST_NOTES = 4096;

/** The notes of a segment; their bytes are not copied. @throws InputError if one does not end in it, or if there are too many. */
export function decodeNotes(segment: Uint8Array): PlacedNote[] {
  const view = viewOf(segment);
  const notes: PlacedNote[] = [];
  for (let offset = 0; offset < segment.length; ) {
    if (notes.length === MOST_NOTES) throw new InputError(`more than ${MOST_NOTES} notes`);
    const what = `note ${notes.length}`;
    const { n_namesz, n_descsz, n_type } = readStruct<NoteHeader>(ELF_NHDR, view, offset, what);
    const name = offset + ELF_NHDR.size;
    const start = name + align(n_namesz);
    if (start + n_descsz > segment.length)
      throw new InputError(`truncated: ${what} of ${n_descsz} bytes goes beyond its segment`);
    const owner = Buffer.from(segment.subarray(name, name + n_namesz)).toString('latin1');
    notes.push({
      owner: owner.replace(/\0+$/, ''),
      type: n_type,
      bytes: segment.subarray(start, start + n_descsz),
      offset,
    });
    offset = start + align(n_descsz);
  }
  return notes;
}
