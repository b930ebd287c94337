import { describe, expect, it } from 'vitest';
import { viewOf } from '../../src/elf/codec.ts';
import { type ElfImage, parseElf } from '../../src/elf/image.ts';
import type { BootChunk, BootPlan } from '../../src/machine/boot-plan.ts';
import { linuxBootPlan } from '../../src/machine/linux-boot.ts';
import { isMultiboot, multibootPlan } from '../../src/machine/multiboot.ts';
import { linkImage } from '../sites/fixture.ts';

const MEBIBYTE = 2 ** 20;
const PAGE = 4096;
const MULTIBOOT_HEADER = '.long 0x1badb002, 0, -0x1badb002';
/** A kernel that is linked where it runs. */
const kernel = (text = 'hlt'): ElfImage =>
  parseElf(linkImage({ text: `.globl _start\n_start: ${text}\n`, base: '0x400000' }));
const options = { memory: 32 * MEBIBYTE, commandLine: 'console=ttyS0 quiet' };

const bytesAt = (plan: BootPlan, address: number): Uint8Array => {
  const chunk = plan.chunks.find(
    (chunk) => address >= chunk.address && address < chunk.address + chunk.bytes.length,
  );
  if (!chunk) throw new Error(`nothing at ${address.toString(16)}`);
  return chunk.bytes.subarray(address - chunk.address);
};

const textAt = (plan: BootPlan, address: number): string => {
  const bytes = bytesAt(plan, address);
  return Buffer.from(bytes.subarray(0, bytes.indexOf(0))).toString('latin1');
};

/** Chunks by address; throws if two overlap or one leaves the memory. */
const ordered = (plan: BootPlan, memory: number): BootChunk[] => {
  const chunks = plan.chunks.toSorted((a, b) => a.address - b.address);
  chunks.forEach(({ address, bytes }, index) => {
    expect(address + bytes.length).toBeLessThanOrEqual(chunks[index + 1]?.address ?? memory);
  });
  return chunks;
};

describe('linuxBootPlan', () => {
  const plan = linuxBootPlan(kernel(), { ...options, initrd: Buffer.from('initrd') });
  const zeroPage = viewOf(bytesAt(plan, plan.esi));

  it('enters the kernel with the address of the boot parameters', () => {
    expect(plan.entry).toBe(0x400000);
    expect(bytesAt(plan, plan.entry)[0]).toBe(0xf4);
    expect(Buffer.from(bytesAt(plan, plan.esi).subarray(0x202, 0x206)).toString()).toBe('HdrS');
    expect(textAt(plan, zeroPage.getUint32(0x228, true))).toBe(options.commandLine);
  });

  it('describes the memory without overlap, up to its end', () => {
    const ranges = Array.from({ length: zeroPage.getUint8(0x1e8) }, (_, index) => {
      const at = 0x2d0 + 20 * index;
      return [0, 8].map((offset) => Number(zeroPage.getBigUint64(at + offset, true))) as [number, number];
    });
    for (const [index, [start, size]] of ranges.entries())
      expect(start + size).toBeLessThanOrEqual(ranges[index + 1]?.[0] ?? options.memory);
    const [start, size] = ranges.at(-1)!;
    expect(start + size).toBe(options.memory);
  });

  it('places the initrd on a page, as high as it goes', () => {
    const address = zeroPage.getUint32(0x218, true);
    expect(address % PAGE).toBe(0);
    expect(options.memory - address).toBeLessThanOrEqual(PAGE);
    expect(Buffer.from(bytesAt(plan, address)).toString()).toBe('initrd');
    expect(zeroPage.getUint32(0x21c, true)).toBe(6);
  });

  it('keeps everything apart, and above what a host may refuse to map', () => {
    expect(ordered(plan, options.memory)[0]!.address).toBeGreaterThanOrEqual(0x10000);
  });

  it('refuses what does not fit, in words', () => {
    const tight = { ...options, memory: 2 * MEBIBYTE };
    expect(() => linuxBootPlan(kernel(), tight)).toThrow(/needs memory up to 0x003ff.*the machine has 2 MiB/);
    const initrd = Buffer.alloc(30 * MEBIBYTE);
    expect(() => linuxBootPlan(kernel(), { ...options, initrd })).toThrow(/does not fit above the kernel/);
    const commandLine = 'x'.repeat(0x10000);
    expect(() => linuxBootPlan(kernel(), { ...options, commandLine })).toThrow(
      /command line has 65537 bytes/,
    );
  });
});

describe('segments that lie', () => {
  /** The kernel's second segment, changed. */
  const lying = (change: (segment: DataView) => void): ElfImage => {
    const bytes = new Uint8Array(kernel().bytes);
    change(new DataView(bytes.buffer, kernel().header.e_phoff + 32, 32));
    return parseElf(bytes);
  };
  const [PADDR, FILESZ, MEMSZ] = [12, 16, 20];
  it.each<[string, (segment: DataView) => void, RegExp]>([
    [
      'of more bytes than memory',
      (s) => s.setUint32(FILESZ, 0x100, true),
      /has 256 bytes in the file and 1 in/,
    ],
    [
      'in another',
      (s) => s.setUint32(PADDR, 0x3f_f010, true),
      /two of the kernel's segments have bytes for 0x003ff010/,
    ],
    [
      'in the data of the loader',
      (s) => s.setUint32(PADDR, 0x9_0000, true),
      /at 0x00090000 reaches into what is the loader's/,
    ],
    ['on its stack', (s) => s.setUint32(PADDR, 0x8_fffc, true), /reaches into/],
    [
      'up to there',
      (s) => [s.setUint32(PADDR, 0x1000, true), s.setUint32(MEMSZ, 0x8_e001, true)],
      /reaches into/,
    ],
    ['at their end', (s) => s.setUint32(PADDR, 0x9_efff, true), /reaches into/],
  ])('%s', (_, change, message) => {
    for (const plan of [linuxBootPlan, multibootPlan])
      expect(() => plan(lying(change), options)).toThrow(message);
  });
});

describe('multibootPlan', () => {
  it('is for images with a header and its right checksum', () => {
    expect(isMultiboot(kernel(`hlt\n.balign 4\n${MULTIBOOT_HEADER}`))).toBe(true);
    expect(isMultiboot(kernel('hlt\n.balign 4\n.long 0x1badb002, 1, -0x1badb002'))).toBe(false);
    expect(isMultiboot(kernel())).toBe(false);
  });

  it('hands over command line, memory map and the initrd as a module', () => {
    const image = kernel(`hlt\n.balign 4\n${MULTIBOOT_HEADER}`);
    const plan = multibootPlan(image, { ...options, initrd: Buffer.from('module') });
    const info = viewOf(bytesAt(plan, plan.ebx));
    expect(plan.eax).toBe(0x2badb002);
    expect(textAt(plan, info.getUint32(16, true))).toBe(options.commandLine);
    expect(info.getUint32(20, true)).toBe(1);
    const module = viewOf(bytesAt(plan, info.getUint32(24, true)));
    const [start, end] = [module.getUint32(0, true), module.getUint32(4, true)];
    expect(Buffer.from(bytesAt(plan, start).subarray(0, end - start)).toString()).toBe('module');
    const map = viewOf(bytesAt(plan, info.getUint32(48, true)));
    expect(info.getUint32(44, true)).toBe(4 * (map.getUint32(0, true) + 4));
    ordered(plan, options.memory);
  });
});
