import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { buildPlugin } from '../../bench/counter.ts';

const ROM_SIZE = 0x10000;
/** Where the processor starts, in a ROM that ends at the top of the first MiB. */
const RESET = 0xfff0;
const TURNS = 1000;

/** 16-bit code: a loop, the marker, the loop and the marker again. */
const CODE = [
  ...[0xb9, TURNS & 0xff, TURNS >> 8], // mov $TURNS, %cx
  ...[0xe2, 0xfe], // 1: loop 1b
  ...[0x66, 0x87, 0xdb], // the marker
  ...[0xeb, 0xf6], // jmp back to the start
];

/** jmp to the start of the ROM's segment. */
const START = [0xe9, ...new Uint8Array(new Int16Array([-(RESET + 3)]).buffer)];

it('counts every instruction before the first marker', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'previrt-counter-'));
  const bytes = new Uint8Array(ROM_SIZE);
  bytes.set(CODE);
  bytes.set(START, RESET);
  const [rom, output] = [join(folder, 'rom'), join(folder, 'count')];
  writeFileSync(rom, bytes);
  const machine = ['-M', 'pc', '-nodefaults', '-display', 'none', '-bios', rom, '-icount', 'shift=0'];
  const qemu = spawn(
    'qemu-system-i386',
    [...machine, '-plugin', `${await buildPlugin('counter')},out=${output}`],
    {
      stdio: 'ignore',
    },
  );
  try {
    const read = (): string => (existsSync(output) ? readFileSync(output, 'latin1') : '');
    while (!read().endsWith('\n') && qemu.exitCode === null) await sleep(20);
    const [jump, load] = [1, 1];
    expect(Number(read())).toBe(jump + load + TURNS);
  } finally {
    qemu.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  }
});
