/**
 * The modules that a Linux for i386 has loaded, as its memory tells: the list
 * `modules` of `struct module` (kernel/module/main.c), and what of that structure
 * can be told by its contents, since the kernel's configuration decides where its
 * members stand. The memory is a stranger's: every walk is bounded, every word
 * checked.
 */

import { readStruct, viewOf } from '../elf/codec.ts';
import { formatAddress } from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';
import { FORMATS } from '../elf/structs.ts';
import { type GuestVirtual, guestVirtual } from '../x86/address.ts';
import { pointersOf, readVirtual } from './paging.ts';
import { PAGE_SIZE } from './ram.ts';
import type { Machine } from './state.ts';

/** Memory of a module, from the start of a page on: its code, constant data, and other data. */
export interface ModuleMemory {
  readonly address: GuestVirtual;
  /** Bytes. */
  readonly size: number;
  /** Of them code: whole pages, with zeros at its end. */
  readonly codeSize: number;
  /** Of them code and constant data. */
  readonly constantSize: number;
}

export interface LoadedModule {
  readonly name: string;
  /** Its `struct module`. */
  readonly address: GuestVirtual;
  readonly core: ModuleMemory;
  /** Of its initialization, until that is over. */
  readonly init: ModuleMemory | undefined;
}

export interface ModuleFunction {
  readonly address: GuestVirtual;
  /** Bytes; 0 if its source did not say. */
  readonly size: number;
}

export type Stopped = Pick<Machine, 'state' | 'ram'>;

/** Where the first members stand, in every version. */
const STATE = 0;
const LIST = 4; // next, prev
const NAME = { start: 12, end: 72 } as const;

/** `enum module_state`. */
const UNFORMED = 3;

/** More than any guest loads. */
const MOST_MODULES = 4096;
/** More bytes than a `struct module` has. */
const MOST_STRUCT = 4096;
/** More functions than a module has. */
const MOST_SYMBOLS = 2 ** 16;

const AGAIN = 'try again';

const wordsOf = (bytes: Uint8Array): number[] =>
  Array.from({ length: bytes.length >> 2 }, (_, index) => viewOf(bytes).getUint32(4 * index, true));

/** A name as a message can show it. */
function nameIn(head: Uint8Array): string {
  const name = head.subarray(NAME.start, NAME.end);
  const end = name.indexOf(0);
  const text = Buffer.from(end < 0 ? name : name.subarray(0, end)).toString('latin1');
  return text.replaceAll(/[^!-~]/g, '?');
}

/** The first members of each `struct module` in a list. @throws InputError if it is no list, or is just being changed */
function* headsOf(
  machine: Stopped,
  list: GuestVirtual,
): Generator<{ readonly address: GuestVirtual; readonly head: Uint8Array }> {
  const lost = (at: number): InputError =>
    new InputError(`the guest's list of modules leads to ${formatAddress(at)}, where none is`);
  const links = (at: number): readonly [next: number, prev: number] => {
    const found = readVirtual(machine, guestVirtual(at), 8);
    if (!found) throw lost(at);
    return wordsOf(found) as [number, number];
  };
  let before: number = list;
  let [at] = links(list);
  for (let count = 0; at !== list; count++) {
    if (count === MOST_MODULES)
      throw new InputError(`the guest's list of modules has more than ${MOST_MODULES}`);
    const [next, prev] = links(at);
    if (prev !== before) throw new InputError('the guest is just changing its list of modules', AGAIN);
    if (at < LIST || at % 4 !== 0) throw lost(at);
    const address = guestVirtual(at - LIST);
    const head = readVirtual(machine, address, NAME.end);
    if (!head) throw lost(at);
    yield { address, head };
    [before, at] = [at, next];
  }
}

/** The words of a `struct module`, and what follows it, as far as memory is mapped there. */
function membersOf(machine: Stopped, address: GuestVirtual): number[] {
  let size = PAGE_SIZE - (address % PAGE_SIZE);
  if (size < MOST_STRUCT && readVirtual(machine, guestVirtual(address + size), 1)) size = MOST_STRUCT;
  return wordsOf(readVirtual(machine, address, Math.min(size, MOST_STRUCT))!);
}

/**
 * The `struct module_layout`s of Linux 4.8 to 6.3: base, size, and where from the
 * base code, constants and what is constant after initialization end; then the
 * module itself (`mtn.mod`), at which little else points.
 */
function layoutsIn(members: readonly number[], module: GuestVirtual): ModuleMemory[] {
  return members.flatMap((owner, index) => {
    if (owner !== module || index < 5) return [];
    const [base, size, code, constant, later] = members.slice(index - 5, index) as [
      ...[number, number, number, number, number],
    ];
    const inOrder = code <= constant && constant <= later && later <= size;
    if (base === 0 || base % PAGE_SIZE !== 0 || base + size > 2 ** 32 || code % PAGE_SIZE !== 0 || !inOrder)
      return [];
    return [{ address: guestVirtual(base), size, codeSize: code, constantSize: constant }];
  });
}

const holds = ({ address: start, size }: ModuleMemory, address: number): boolean =>
  address >= start && address < start + size;

/** Linux' page tables for its kernel lie a page below those for user code (PTI_USER_PGTABLE_BIT, arch/x86/mm/pti.c). */
const USER_TABLES = PAGE_SIZE;

/**
 * By the kernel's page tables: those in use are user code's if they do not show the kernel's data.
 * @param list guest-virtual address of `modules`
 */
export function throughKernelTables(machine: Stopped, list: GuestVirtual): Stopped {
  if (readVirtual(machine, list, 1) || !(machine.state.cpu.cr3 & USER_TABLES)) return machine;
  const { state, ram } = machine;
  const cpu = { ...state.cpu, cr3: state.cpu.cr3 - USER_TABLES };
  const pdpte = pointersOf(ram, cpu);
  return pdpte ? { ram, state: { ...state, cpu: { ...cpu, pdpte } } } : machine;
}

/**
 * All loaded modules.
 * @param list guest-virtual address of `modules`
 * @throws InputError if the list or a module cannot be understood, or one is just coming or going
 */
export function loadedModules(machine: Stopped, list: GuestVirtual): LoadedModule[] {
  return [...headsOf(machine, list)].map(({ address, head }) => {
    const name = nameIn(head);
    if (viewOf(head).getUint32(STATE, true) === UNFORMED)
      throw new InputError(`module ${name} is just being loaded or unloaded`, AGAIN);
    const layouts = layoutsIn(membersOf(machine, address), address);
    const core = layouts.find((layout) => holds(layout, address));
    const others = layouts.filter((layout) => layout !== core);
    if (!core || others.length > 1)
      throw new InputError(
        `module ${name} does not say where its code lies, as those of Linux 4.8 to 6.3 do`,
        'unload it first',
      );
    return { name, address, core, init: others[0] };
  });
}

/**
 * A module's functions: those of the symbol table in `struct mod_kallsyms` (table
 * and count first), which stands right behind a pointer to it. None if the kernel
 * keeps no symbols (CONFIG_KALLSYMS), or initialization is not over.
 */
export function functionsOf(machine: Stopped, { address, core }: LoadedModule): ModuleFunction[] {
  const members = membersOf(machine, address);
  const pointer = members.findIndex(
    (word, index) => word === address + 4 * (index + 1) && holds(core, members[index + 1] ?? 0),
  );
  const [table = 0, count = 0] = pointer < 0 ? [] : members.slice(pointer + 1);
  const { size: entry } = FORMATS[32].symbol;
  const bytes = count > MOST_SYMBOLS ? undefined : readVirtual(machine, guestVirtual(table), count * entry);
  if (!bytes) return [];
  return Array.from({ length: count }, (_, index) =>
    readStruct<{ st_value: number; st_size: number }>(
      FORMATS[32].symbol,
      viewOf(bytes),
      index * entry,
      'a symbol',
    ),
  )
    .map(({ st_value, st_size }) => ({ address: guestVirtual(st_value), size: st_size }))
    .filter(
      ({ address: start, size }) => start >= core.address && start + size <= core.address + core.codeSize,
    );
}
