/** A Linux made up in memory, as far as its modules go: page tables, the list, and each module as Linux 6.1 lays it out. */

import { viewOf } from '../../src/elf/codec.ts';
import { PAGE_SIZE } from '../../src/machine/ram.ts';
import type { Machine } from '../../src/machine/state.ts';
import { type GuestVirtual, guestVirtual } from '../../src/x86/address.ts';
import { DOMAINS, SITE_KINDS, type SiteKindName } from '../../src/x86/site-kinds.ts';
import { SITE_RECORD_SIZE, SITE_RECORD_VERSION } from '../../src/x86/site-record.ts';
import { CR0_PG, KERNEL_BASE, machineOf } from './state-fixture.ts';

export interface MadeSite {
  readonly kind: SiteKindName;
  readonly bytes: readonly number[];
  /** Of the bytes those in front. */
  readonly widening: number;
  readonly flags?: number;
}

const CS = 0x2e;
export const MADE_SITES: readonly MadeSite[] = [
  { kind: 'cli', bytes: [CS, CS, CS, CS, 0xfa], widening: 4 },
  { kind: 'pushf', bytes: [CS, CS, CS, CS, 0x9c], widening: 4 },
  { kind: 'rdmsr', bytes: [CS, CS, CS, 0x0f, 0x32], widening: 3 },
  { kind: 'mov_to_cr', bytes: [CS, CS, CS, 0x0f, 0x22, 0xd8], widening: 3 },
  { kind: 'sti', bytes: [0x90, 0x90, 0x90, 0x90, 0xfb], widening: 4, flags: 1 },
  { kind: 'mmio_read', bytes: [0x3e, 0x3e, 0x3e, 0x8b, 0x00], widening: 3 },
];

export interface MadeModule {
  readonly name: string;
  /** `enum module_state`; 0: live. */
  readonly state?: number;
  /** Each is followed by a NOP. */
  readonly sites?: readonly MadeSite[];
  /** Those of its initialization, whose memory is there or has been given back. */
  readonly initSites?: readonly MadeSite[];
  readonly initGone?: boolean;
  /** Code behind the sites. */
  readonly code?: readonly number[];
  /** Bytes in front of the records. */
  readonly pad?: number;
  /** Functions: offsets in the code and sizes. */
  readonly functions?: readonly (readonly [offset: number, size: number])[];
  /** Whether the kernel says where the code lies. */
  readonly layout?: boolean;
}

export interface PlacedModule {
  /** Its `struct module`. */
  readonly address: GuestVirtual;
  readonly code: GuestVirtual;
  readonly init: GuestVirtual;
}

export const LIST = guestVirtual(KERNEL_BASE + 0x8000);
export const MODULES_BASE = 0xc800_0000;
const [KERNEL_TABLE, MODULE_TABLE] = [0x2000, 0x3000];
/** Linux has that of user code, if there is one, a page above; here it is empty. */
export const DIRECTORY = 0x4000;
const RAM_SIZE = 2 ** 21;
const PRESENT = 1;

/** Offsets in the page of data. */
const STRUCT = 0x40;
const SYMBOLS = 0x400;
/** Offsets in the structure. */
const NAME = 12;
const LAYOUTS = [0x80, 0xc0] as const;
const KALLSYMS = 0x100;

export class MadeMemory {
  readonly bytes = new Uint8Array(RAM_SIZE);
  readonly view = viewOf(this.bytes);
  readonly placed: PlacedModule[] = [];
  /** Pages of modules: in RAM from its end down, so that what follows in one space does not in the other. */
  readonly #physical = new Map<number, number>();
  #next = MODULES_BASE;

  constructor(modules: readonly MadeModule[]) {
    this.view.setUint32(DIRECTORY + (KERNEL_BASE >>> 22) * 4, KERNEL_TABLE | PRESENT, true);
    this.view.setUint32(DIRECTORY + (MODULES_BASE >>> 22) * 4, MODULE_TABLE | PRESENT, true);
    for (let page = 0; page < 0x100; page++)
      this.view.setUint32(KERNEL_TABLE + page * 4, (page * PAGE_SIZE) | PRESENT, true);
    for (const module of modules) this.placed.push(this.#place(module));
    const nodes = [LIST, ...this.placed.map(({ address }) => address + 4)];
    nodes.forEach((node, index) => {
      this.word(node, nodes[(index + 1) % nodes.length]!);
      this.word(node + 4, nodes.at(index - 1)!);
    });
  }

  machine(cr3 = DIRECTORY): Machine {
    return machineOf(this.bytes, { cr0: CR0_PG, cr3 });
  }

  /** Where in RAM an address lies. */
  at(address: number): number {
    const page =
      this.#physical.get(Math.floor(address / PAGE_SIZE)) ?? address - (address % PAGE_SIZE) - KERNEL_BASE;
    return page + (address % PAGE_SIZE);
  }

  word(address: number, value: number): void {
    this.view.setUint32(this.at(address), value, true);
  }

  words(address: number, values: readonly number[]): void {
    for (const [index, value] of values.entries()) this.word(address + 4 * index, value);
  }

  write(address: number, bytes: Iterable<number>): void {
    let at = address;
    for (const byte of bytes) this.bytes[this.at(at++)] = byte;
  }

  /** Maps pages, with a hole behind them. */
  #allocate(pages: number): GuestVirtual {
    const address = this.#next;
    for (let page = 0; page < pages; page++) {
      const physical = RAM_SIZE - (this.#physical.size + 1) * PAGE_SIZE;
      const number = (address - MODULES_BASE) / PAGE_SIZE + page;
      this.view.setUint32(MODULE_TABLE + number * 4, physical | PRESENT, true);
      this.#physical.set(address / PAGE_SIZE + page, physical);
    }
    this.#next += (pages + 1) * PAGE_SIZE;
    return guestVirtual(address);
  }

  unmap(address: number): void {
    this.view.setUint32(MODULE_TABLE + ((address - MODULES_BASE) / PAGE_SIZE) * 4, 0, true);
  }

  #place(module: MadeModule): PlacedModule {
    const {
      name,
      state = 0,
      sites = [],
      initSites = [],
      initGone = false,
      layout = true,
      functions,
    } = module;
    const codePages = 1;
    const constantPages = 2;
    const core = this.#allocate(codePages + constantPages + 1);
    const init = this.#allocate(1);
    const constants = core + codePages * PAGE_SIZE;
    const data = constants + constantPages * PAGE_SIZE;
    const address = guestVirtual(data + STRUCT);

    let record = constants + (module.pad ?? 0);
    const put = (made: readonly MadeSite[], from: number): number => {
      let at = from;
      for (const { kind, bytes, widening, flags = 0 } of made) {
        const { id, domain } = SITE_KINDS[kind];
        this.write(at, [...bytes, 0x90]);
        const fields = new Uint8Array(SITE_RECORD_SIZE);
        viewOf(fields).setInt32(0, at - record, true);
        fields.set([bytes.length, widening, DOMAINS[domain], id, flags, 0, SITE_RECORD_VERSION, 0], 4);
        this.write(record, fields);
        record += SITE_RECORD_SIZE;
        at += bytes.length + 1;
      }
      return at;
    };
    this.write(put(sites, core), module.code ?? []);
    put(initSites, init);
    if (initGone) this.unmap(init);

    this.word(address, state);
    this.write(address + NAME, Buffer.from(name, 'latin1'));
    const layouts = [
      [core, 4 * PAGE_SIZE, codePages * PAGE_SIZE, 3 * PAGE_SIZE, 3 * PAGE_SIZE],
      initSites.length > 0 && !initGone
        ? [init, PAGE_SIZE, PAGE_SIZE, PAGE_SIZE, PAGE_SIZE]
        : [0, 0, 0, 0, 0],
    ];
    if (layout)
      layouts.forEach((words, index) => {
        this.words(address + LAYOUTS[index]!, [...words, address]);
      });
    if (functions) {
      const table = data + SYMBOLS;
      this.words(address + KALLSYMS, [address + KALLSYMS + 4, table, functions.length]);
      functions.forEach(([offset, size], n) => {
        this.words(table + 16 * n + 4, [core + offset, size]);
      });
    }
    return { address, code: core, init };
  }
}
