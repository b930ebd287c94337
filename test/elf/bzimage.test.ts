import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { readKernel } from '../../src/cli/kernel-file.ts';
import { isBzImage, readPayload } from '../../src/elf/bzimage.ts';
import { InputError } from '../../src/elf/input-error.ts';

/** Replay a failure with PREVIRT_SEED. */
const SEED = Number(process.env.PREVIRT_SEED ?? Date.now() % 2 ** 31);

const KERNEL = Buffer.from(`\x7fELF${'a kernel, '.repeat(1000)}`, 'latin1');
const SECTORS = 3;
const LOADER = 100;

const directory = mkdtempSync(join(tmpdir(), 'previrt-bzimage-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

/** A bzImage with a payload, as the build of Linux puts it together. */
function bzImage(payload: Buffer, version = 0x20f): Buffer {
  const setup = Buffer.alloc((SECTORS + 1) * 512);
  setup[0x1f1] = SECTORS;
  setup.writeUInt16LE(0xaa55, 0x1fe);
  setup.write('HdrS', 0x202);
  setup.writeUInt16LE(version, 0x206);
  setup.writeUInt32LE(LOADER, 0x248);
  setup.writeUInt32LE(payload.length, 0x24c);
  return Buffer.concat([setup, Buffer.alloc(LOADER, 0x90), payload, Buffer.alloc(50)]);
}

const sized = (compressed: Buffer): Buffer => {
  const size = Buffer.alloc(4);
  size.writeUInt32LE(KERNEL.length);
  return Buffer.concat([compressed, size]);
};

const by = (program: string, ...args: string[]): Buffer =>
  sized(execFileSync(program, args, { input: KERNEL }));

/** As the build compresses (scripts/Makefile.lib). */
const PAYLOADS: Readonly<Record<string, () => Buffer>> = {
  gzip: () => gzipSync(KERNEL),
  xz: () => by('xz', '--check=crc32', '--x86', '--lzma2=dict=1MiB', '-c'),
  lzma: () => by('xz', '--format=lzma', '-c'),
  bzip2: () => by('bzip2', '-c'),
};

const kernelIn = (bytes: Uint8Array): Uint8Array => {
  const path = join(directory, 'vmlinuz');
  writeFileSync(path, bytes);
  return readKernel(path).image;
};

describe(`bzImage (PREVIRT_SEED=${SEED})`, () => {
  it.each(Object.keys(PAYLOADS))('gives the kernel compressed by %s', (format) => {
    const image = bzImage(PAYLOADS[format]!());
    expect(readPayload(image).format).toBe(format);
    expect(Buffer.from(kernelIn(image)).equals(KERNEL)).toBe(true);
  });

  it('an ELF file is taken as it is', () => {
    expect(Buffer.from(kernelIn(KERNEL)).equals(KERNEL)).toBe(true);
  });

  it.each([
    ['too old', bzImage(gzipSync(KERNEL), 0x207), /boot protocol 2\.07 does not say/],
    ['compressed in an unknown way', bzImage(Buffer.from('something else')), /compressed in an unknown way/],
    ['cut short', bzImage(gzipSync(KERNEL)).subarray(0, 2200), /truncated: the compressed kernel/],
    [
      'damaged, gzip',
      bzImage(Buffer.concat([gzipSync(KERNEL).subarray(0, 60)])),
      /the compressed kernel is damaged/,
    ],
    [
      'damaged, xz',
      bzImage(Buffer.concat([PAYLOADS.xz!().subarray(0, 80)])),
      /the compressed kernel is damaged/,
    ],
    [
      'of another size than it says',
      bzImage(Buffer.concat([PAYLOADS.xz!().subarray(0, -4), Buffer.from([0, 0, 1, 0])])),
      /it has 10004 bytes instead of 65536/,
    ],
  ])('says in a line what is wrong with one that is %s', (_, bytes, message) => {
    expect(() => kernelIn(bytes)).toThrow(message);
    expect(() => kernelIn(bytes)).toThrow(InputError);
  });

  it('whatever the header says, it is read or refused', () => {
    const image = bzImage(gzipSync(KERNEL));
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.integer({ min: 0x1f0, max: 0x250 }), fc.integer({ min: 0, max: 255 })), {
          minLength: 1,
          maxLength: 8,
        }),
        fc.integer({ min: 0, max: image.length }),
        (changes, length) => {
          const bytes = Uint8Array.from(image.subarray(0, length));
          for (const [at, byte] of changes) if (at < bytes.length) bytes[at] = byte;
          if (!isBzImage(bytes)) return;
          try {
            expect(readPayload(bytes).compressed.length).toBeLessThan(bytes.length);
          } catch (error) {
            expect(error).toBeInstanceOf(InputError);
          }
        },
      ),
      { seed: SEED, numRuns: 1000 },
    );
  });
});
