/**
 * Linux's bzImage: a real-mode loader in front of a program that unpacks the
 * kernel, which lies in it compressed (Documentation/x86/boot.rst).
 */

import { viewOf } from './codec.ts';
import { slice } from './image.ts';
import { InputError } from './input-error.ts';

/** Fields of the setup header: offsets in the file. */
const SETUP = {
  sectors: 0x1f1,
  bootFlag: 0x1fe,
  magic: 0x202,
  version: 0x206,
  payloadOffset: 0x248,
  payloadLength: 0x24c,
} as const;

const HEADER_END = 0x250;
const BOOT_FLAG = 0xaa55;
const MAGIC = 0x5372_6448; // "HdrS"
/** The first version of the boot protocol that says where the payload lies. */
const LEAST_VERSION = 0x208;
const SECTOR = 512;
/** What 0 in the header's field means. */
const DEFAULT_SECTORS = 4;

/** How payloads begin, by format; with the kernel's own names of them. */
const FORMATS = {
  gzip: [0x1f, 0x8b],
  xz: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00],
  zstd: [0x28, 0xb5, 0x2f, 0xfd],
  lz4: [0x02, 0x21, 0x4c, 0x18],
  bzip2: [0x42, 0x5a, 0x68],
  lzma: [0x5d, 0x00, 0x00],
  lzo: [0x89, 0x4c, 0x5a],
} as const satisfies Record<string, readonly number[]>;

export type PayloadFormat = keyof typeof FORMATS;

export interface Payload {
  readonly format: PayloadFormat;
  readonly compressed: Uint8Array;
  /** Bytes of what is in it. */
  readonly size: number;
}

export const isBzImage = (bytes: Uint8Array): boolean => {
  if (bytes.length < HEADER_END) return false;
  const view = viewOf(bytes);
  return view.getUint16(SETUP.bootFlag, true) === BOOT_FLAG && view.getUint32(SETUP.magic, true) === MAGIC;
};

/** @throws InputError if it is no bzImage, too old a one, cut short, or compressed in an unknown way */
export function readPayload(bytes: Uint8Array): Payload {
  if (!isBzImage(bytes)) throw new InputError('not a bzImage');
  const view = viewOf(bytes);
  const version = view.getUint16(SETUP.version, true);
  if (version < LEAST_VERSION)
    throw new InputError(
      `boot protocol ${version >> 8}.${(version & 0xff).toString().padStart(2, '0')} does not say where the kernel lies in the image`,
      'give the vmlinux instead',
    );
  const sectors = bytes[SETUP.sectors] || DEFAULT_SECTORS;
  const offset = (sectors + 1) * SECTOR + view.getUint32(SETUP.payloadOffset, true);
  const payload = slice(bytes, offset, view.getUint32(SETUP.payloadLength, true), 'the compressed kernel');
  const format = (Object.keys(FORMATS) as PayloadFormat[]).find((name) =>
    FORMATS[name].every((byte, index) => payload[index] === byte),
  );
  if (!format || payload.length < 8)
    throw new InputError('the kernel is compressed in an unknown way', 'give the vmlinux instead');
  // The build puts the size behind what the compressor wrote; gzip ends with it anyway (scripts/Makefile.lib, size_append).
  const size = viewOf(payload).getUint32(payload.length - 4, true);
  const compressed = format === 'gzip' ? payload : payload.subarray(0, -4);
  return { format, compressed, size };
}
