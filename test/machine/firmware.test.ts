/** The firmware as the processor reads it: by the disassembler. That it boots, the boot tests show. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { firmware } from '../../src/machine/firmware.ts';
import { guestPhysical } from '../../src/x86/address.ts';

const PLAN = {
  entry: guestPhysical(0x1234567),
  eax: 0x11,
  ebx: 0x22,
  esi: 0x33,
  esp: guestPhysical(0x44),
  chunks: [],
};

/** Where 32-bit code begins if there is no disk. */
const ENTRY = 0x18;

/** Instructions of the ROM from an offset on, in Intel's spelling, spaces made one. */
function disassemble(rom: Uint8Array, mode: 'i8086' | 'i386', start: number, stop: number): string[] {
  const folder = mkdtempSync(join(tmpdir(), 'previrt-rom-'));
  try {
    const file = join(folder, 'rom');
    writeFileSync(file, rom);
    const options = ['-D', '-b', 'binary', '-m', mode, '-M', 'intel', '--no-show-raw-insn'];
    const range = [`--start-address=${start}`, `--stop-address=${stop}`];
    return execFileSync('objdump', [...options, ...range, file], { encoding: 'utf8' })
      .split('\n')
      .flatMap((line) => /^\s+[0-9a-f]+:\t(.*?)\s*$/.exec(line)?.[1]?.replaceAll(/\s+/g, ' ') ?? []);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

describe('firmware', () => {
  it('begins at the reset vector and leaves for 32-bit code', () => {
    const rom = firmware(PLAN, false);
    expect(rom.length).toBe(0x10000);
    expect(disassemble(rom, 'i8086', 0xfff0, 0xfff3)).toEqual(['jmp 0x0']);
    const real = disassemble(rom, 'i8086', 0, ENTRY);
    expect(real).toEqual([
      'cli',
      'lgdtd cs:0xff40',
      'mov eax,cr0',
      'or al,0x1',
      'mov cr0,eax',
      'jmp 0x10:0xf0018',
    ]);
  });

  it('enters the kernel with the registers of its boot protocol', () => {
    const code = disassemble(firmware(PLAN, false), 'i386', ENTRY, ENTRY + 50);
    expect(code.slice(6)).toEqual([
      'mov eax,0x11',
      'mov ebx,0x22',
      'mov esi,0x33',
      'mov esp,0x44',
      'xor ecx,ecx',
      'xor edx,edx',
      'xor edi,edi',
      'xor ebp,ebp',
      'jmp 0x10:0x1234567',
    ]);
  });

  it('sets up the disk only where there is one', () => {
    const outs = (hasDisk: boolean): number =>
      disassemble(firmware(PLAN, hasDisk), 'i8086', 0, 200).filter((text) => text.startsWith('out ')).length;
    expect(outs(false)).toBe(0);
    expect(outs(true)).toBe(11);
  });
});
