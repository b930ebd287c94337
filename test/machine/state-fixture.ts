/** Machine states made up for tests, and files of them. */

import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { viewOf } from '../../src/elf/codec.ts';
import { zeroRecord } from '../../src/elf/record.ts';
import type { Cpu } from '../../src/machine/cpu.ts';
import { memoryRam, PAGE_SIZE } from '../../src/machine/ram.ts';
import { FPU_FORMAT, MACHINE_STATE, type Machine, type MachineState } from '../../src/machine/state.ts';
import { readStateFile, type StateFile } from '../../src/machine/state-reader.ts';
import { type WriteOptions, writeStateFile } from '../../src/machine/state-writer.ts';
import { VIRTUAL_PC_VERSION } from '../../src/machine/virtual-pc.ts';

/** All fields zero but for what makes it valid. */
export function emptyState(ramSize: number, cpu: Partial<Cpu> = {}): MachineState {
  const { magic, version, site_count, module_site_count, reserved, ...state } = zeroRecord(MACHINE_STATE);
  const { i8254, virtio_blk } = state.devices;
  return {
    ...state,
    ram_size: BigInt(ramSize),
    pc_version: VIRTUAL_PC_VERSION,
    fpu_format: FPU_FORMAT.FXSAVE,
    fpu_size: 512,
    cpu: { ...state.cpu, ...cpu },
    devices: {
      ...state.devices,
      i8254: { ...i8254, channels: i8254.channels.map((channel) => ({ ...channel, period: 65_536 })) },
      virtio_blk: { ...virtio_blk, queue_size: 128 },
    },
  };
}

export const machineOf = (ram: Uint8Array, cpu: Partial<Cpu> = {}): Machine => ({
  state: emptyState(ram.length, cpu),
  sites: [],
  ram: memoryRam(ram),
});

/** RAM read back whole. */
export function allOf({ ram }: Machine): Uint8Array {
  const bytes = new Uint8Array(ram.size);
  ram.read(0 as never, bytes);
  return bytes;
}

/** A folder for state files. */
export class StateFolder {
  readonly path = mkdtempSync(join(tmpdir(), 'previrt-state-'));

  file(name: string): string {
    return join(this.path, name);
  }

  /** Writes a state; returns the file's bytes. */
  write(name: string, machine: Machine, options?: WriteOptions): Uint8Array {
    const file = openSync(this.file(name), 'w');
    try {
      writeStateFile(file, machine, options);
    } finally {
      closeSync(file);
    }
    return new Uint8Array(readFileSync(this.file(name)));
  }

  /** Opens a state, or bytes that may be one, for as long as `body` runs. */
  read<T>(name: string, body: (state: StateFile) => T, bytes?: Uint8Array): T {
    if (bytes) writeFileSync(this.file(name), bytes);
    const file = openSync(this.file(name), 'r');
    try {
      return body(readStateFile(file));
    } finally {
      closeSync(file);
    }
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

export const KERNEL_BASE = 0xc000_0000;
const PRESENT = 1;
const WRITABLE = 2;
const LARGE = 0x80;

export const CR0_PG = 0x8000_0001;
export const CR4 = { PSE: 1 << 4, PAE: 1 << 5 } as const;

/** Where the fixtures' page tables lie in RAM. */
const TABLES = 0x1000;

/**
 * Page tables that map RAM from KERNEL_BASE on, as a kernel does; the registers that go with them.
 * Small pages map the first 4 MiB (2 MiB with PAE).
 */
export const PAGINGS: Readonly<Record<string, (ram: Uint8Array) => Partial<Cpu>>> = {
  'pages of 4 KiB': (ram) => {
    const view = viewOf(ram);
    view.setUint32(TABLES + (KERNEL_BASE >>> 22) * 4, 0x2000 | PRESENT | WRITABLE, true);
    for (let page = 0; page < 1024; page++)
      view.setUint32(0x2000 + page * 4, (page * PAGE_SIZE) | PRESENT | WRITABLE, true);
    return { cr0: CR0_PG, cr3: TABLES, cr4: 0 };
  },
  'pages of 4 MiB': (ram) => {
    const view = viewOf(ram);
    for (let large = 0; large < ram.length / 2 ** 22; large++)
      view.setUint32(
        TABLES + ((KERNEL_BASE >>> 22) + large) * 4,
        (large * 2 ** 22) | PRESENT | WRITABLE | LARGE,
        true,
      );
    return { cr0: CR0_PG, cr3: TABLES, cr4: CR4.PSE };
  },
  PAE: (ram) => {
    const view = viewOf(ram);
    // The first directory entry is a table, the others are pages of 2 MiB.
    view.setBigUint64(0x2000, BigInt(0x3000 | PRESENT | WRITABLE), true);
    for (let page = 0; page < 512; page++)
      view.setBigUint64(0x3000 + page * 8, BigInt((page * PAGE_SIZE) | PRESENT | WRITABLE), true);
    for (let large = 1; large < ram.length / 2 ** 21; large++)
      view.setBigUint64(0x2000 + large * 8, BigInt((large * 2 ** 21) | PRESENT | WRITABLE | LARGE), true);
    return { cr0: CR0_PG, cr3: TABLES, cr4: CR4.PAE, pdpte: [0n, 0n, 0n, BigInt(0x2000 | PRESENT)] };
  },
};
