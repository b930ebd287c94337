/** Reading a kernel's file: an ELF image as it is, or the one that a bzImage has compressed in it. */

import { spawnSync } from 'node:child_process';
import { gunzipSync } from 'node:zlib';
import { isBzImage, type Payload, type PayloadFormat, readPayload } from '../elf/bzimage.ts';
import { InputError } from '../elf/input-error.ts';
import { MEBIBYTE } from '../machine/virtual-pc.ts';
import { inPlace } from './errors.ts';
import { readInput } from './files.ts';

export interface KernelFile {
  /** As it was given. */
  readonly file: Uint8Array;
  /** The linked kernel. */
  readonly image: Uint8Array;
}

/** No kernel is larger once it is unpacked. */
const MAX_IMAGE = 256 * MEBIBYTE;

/** Unpacks its standard input to its standard output. */
const PROGRAMS: Readonly<Record<Exclude<PayloadFormat, 'gzip'>, readonly string[]>> = {
  xz: ['xz', '-dc'],
  lzma: ['xz', '-dc', '--format=lzma'],
  zstd: ['zstd', '-dc'],
  lz4: ['lz4', '-dc'],
  bzip2: ['bzip2', '-dc'],
  lzo: ['lzop', '-dc'],
};

const damaged = (why: string): InputError => new InputError(`the compressed kernel is damaged: ${why}`);

function gunzip(compressed: Uint8Array): Uint8Array {
  try {
    return gunzipSync(compressed, { maxOutputLength: MAX_IMAGE });
  } catch (error) {
    throw damaged((error as Error).message);
  }
}

function unpack({ format, compressed, size }: Payload): Uint8Array {
  if (size > MAX_IMAGE) throw damaged(`it says that it has ${size} bytes`);
  if (format === 'gzip') return gunzip(compressed);
  const [program, ...args] = PROGRAMS[format];
  const { stdout, stderr, error, status } = spawnSync(program!, args, {
    input: compressed,
    maxBuffer: size + 1,
  });
  if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT')
    throw new InputError(
      `the kernel is compressed by ${format}, and there is no ${program} here`,
      `install ${program}`,
    );
  if (error || status !== 0)
    throw damaged(stderr?.toString().trim().split('\n')[0] || (error?.message ?? `${program} failed`));
  return stdout;
}

/** The kernel in a file that was read from `path`. @throws CliError if it cannot be unpacked */
export function kernelIn(path: string, file: Uint8Array): KernelFile {
  if (!isBzImage(file)) return { file, image: file };
  return inPlace(path, () => {
    const payload = readPayload(file);
    const image = unpack(payload);
    if (image.length !== payload.size)
      throw damaged(`it has ${image.length} bytes instead of ${payload.size}`);
    return { file, image };
  });
}

/** @throws CliError if it cannot be read or unpacked */
export const readKernel = (path: string): KernelFile => kernelIn(path, readInput(path));
