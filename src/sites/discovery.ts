/**
 * The sensitive instructions of a kernel that was never annotated, found by
 * disassembly. Whoever changes bytes of code must know that they are an
 * instruction, so each run of code from one symbol to the next has to prove
 * itself: swept from its start it must decode without a remainder, and no
 * branch from anywhere may lead into the middle of one of its instructions.
 * Where that fails, only instructions that control flow reaches from its start
 * or from a branch elsewhere count; the other bytes are reported.
 */

import { Decoder, DecoderOptions, FlowControl, Instruction, Code as InstructionCode, OpKind } from 'iced-x86';
import { codeSections, type ElfImage, sectionBytes } from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';
import { EM, ET } from '../elf/structs.ts';
import { readSymbols } from '../elf/symbols.ts';
import { fileOffset, guestVirtual } from '../x86/address.ts';
import { SITE_KINDS } from '../x86/site-kinds.ts';
import { kindOfCode, operationOf } from './instructions.ts';
import { readKallsyms } from './kallsyms.ts';
import type { Site } from './site.ts';

export interface Unproven {
  readonly address: number;
  readonly length: number;
  /** The symbol in front of it, '' if there is none. */
  readonly function: string;
}

export interface Discovery {
  /** Sensitive instructions as sites without widening, by address. */
  readonly sites: readonly Site[];
  /** Functions that symbols told, by name; of several of a name the first. */
  readonly functions: ReadonlyMap<string, number>;
  readonly instructions: number;
  /** Bytes of code in all. */
  readonly bytes: number;
  /** Code in which nothing is changed, because it could not be proven. */
  readonly unproven: readonly Unproven[];
}

/** Where a function starts, as a symbol tells. */
export interface Start {
  readonly address: number;
  readonly name: string;
}

/** Code, wherever it lies. */
export interface Code {
  /** Guest-virtual. */
  readonly address: number;
  readonly bytes: Uint8Array;
  /** Of its section. */
  readonly name: string;
  /** In the file; 0 without one. */
  readonly offset: number;
}

const holds = ({ address: start, bytes }: Code, address: number): boolean =>
  address >= start && address < start + bytes.length;

const codeOf = (elf: ElfImage): Code[] =>
  codeSections(elf).map((section) => ({
    address: section.sh_addr,
    bytes: sectionBytes(elf, section),
    name: section.name,
    offset: section.sh_offset,
  }));

/** Where functions start: by the symbol table, or else by the kernel's own. */
function functionStarts(elf: ElfImage, code: readonly Code[]): Start[] {
  const inCode = (address: number): boolean => code.some((one) => holds(one, address));
  const symbols = readSymbols(elf);
  const named =
    symbols.length > 0
      ? symbols.map(({ value, name }) => ({ address: value, name }))
      : readKallsyms(elf.bytes, inCode);
  return named.filter(({ address, name }) => name !== '' && inCode(address));
}

interface Decoded {
  readonly code: Code;
  readonly decoder: Decoder;
  /** For each byte the length of the instruction that starts there, or 0. */
  readonly lengths: Uint8Array;
  /** For each byte whether a branch leads there. */
  readonly targets: Uint8Array;
}

interface Run {
  readonly decoded: Decoded;
  /** Offsets in the code. */
  readonly start: number;
  readonly end: number;
  readonly name: string;
}

function runsOf(decoded: Decoded, starts: readonly Start[]): Run[] {
  const { code } = decoded;
  const names = new Map<number, string>([[0, '']]);
  for (const { address, name } of starts) if (holds(code, address)) names.set(address - code.address, name);
  const cuts = [...names.keys()].sort((a, b) => a - b);
  return cuts.map((start, index) => ({
    decoded,
    start,
    end: cuts[index + 1] ?? code.bytes.length,
    name: names.get(start)!,
  }));
}

const NEAR_BRANCHES: ReadonlySet<OpKind> = new Set([
  OpKind.NearBranch16,
  OpKind.NearBranch32,
  OpKind.NearBranch64,
]);

/** Decodes the instruction at an offset; false if there is none that ends by `end`. */
function decodeAt({ code, decoder }: Decoded, offset: number, end: number, into: Instruction): boolean {
  decoder.position = offset;
  decoder.ip = BigInt(code.address + offset);
  decoder.decodeOut(into);
  return into.code !== InstructionCode.INVALID && decoder.position <= end;
}

const branchTarget = (instruction: Instruction): number | undefined =>
  instruction.opCount > 0 && NEAR_BRANCHES.has(instruction.op0Kind)
    ? Number(instruction.nearBranchTarget)
    : undefined;

/** Control flow does not go on behind these. */
const ENDS: ReadonlySet<FlowControl> = new Set([
  FlowControl.Return,
  FlowControl.UnconditionalBranch,
  FlowControl.IndirectBranch,
]);

/** Sweeps a run from its start. False if it does not come out even; then its branches do not count. */
function sweep(
  { decoded, start, end }: Run,
  instruction: Instruction,
  onBranch: (target: number) => void,
): boolean {
  const targets: number[] = [];
  for (let at = start; at < end; at += decoded.lengths[at]!) {
    if (!decodeAt(decoded, at, end, instruction)) return false;
    decoded.lengths[at] = instruction.length;
    const target = branchTarget(instruction);
    if (target !== undefined) targets.push(target);
  }
  for (const target of targets) onBranch(target);
  return true;
}

/** Whether a branch leads into the middle of an instruction: then one of the two is no code. */
function hasTargetInside({ decoded: { lengths, targets }, start, end }: Run): boolean {
  for (let at = start; at < end; at++) if (targets[at] && lengths[at] === 0) return true;
  return false;
}

/**
 * Takes for instructions what control flow reaches inside a run, from its start
 * and from branches elsewhere, and returns the rest. An undefined instruction
 * ends a path, as ud2 does.
 */
function descend({ decoded, start, end, name }: Run, instruction: Instruction): Unproven[] {
  const { lengths, targets, code } = decoded;
  lengths.fill(0, start, end);
  const open = [start];
  for (let at = start + 1; at < end; at++) if (targets[at]) open.push(at);
  while (open.length > 0) {
    for (let at = open.pop()!; at >= start && at < end && lengths[at] === 0; ) {
      if (!decodeAt(decoded, at, end, instruction)) break;
      lengths[at] = instruction.length;
      const target = branchTarget(instruction);
      if (target !== undefined) open.push(target - code.address);
      if (ENDS.has(instruction.flowControl)) break;
      at += instruction.length;
    }
  }
  const rest: Unproven[] = [];
  let covered = start;
  let last = start;
  for (let at = start; at <= end; at++) {
    const length = at < end ? lengths[at]! : 0;
    if (length === 0 && at < end) continue;
    if (at > covered) rest.push({ address: code.address + covered, length: at - covered, function: name });
    if (at === end) break;
    // Where two instructions share bytes, neither may be changed.
    if (at < covered) lengths[last] = lengths[at] = 0;
    else last = at;
    covered = Math.max(covered, at + length);
  }
  return rest;
}

/** @throws InputError unless the image is a linked 32-bit x86 kernel with code sections */
function checkImage(elf: ElfImage): void {
  if (elf.class !== 32 || elf.header.e_machine !== EM.I386 || elf.header.e_type !== ET.EXEC)
    throw new InputError('not a linked 32-bit x86 kernel');
  if (codeSections(elf).length === 0)
    throw new InputError(
      'no section of the file is code',
      'give the vmlinux or bzImage as the build leaves it',
    );
}

/** @throws InputError unless the image is a linked 32-bit x86 kernel that says where its functions start */
export function discoverSites(elf: ElfImage): Discovery {
  checkImage(elf);
  const code = codeOf(elf);
  const starts = functionStarts(elf, code);
  if (starts.length === 0)
    throw new InputError(
      'neither a symbol table nor kallsyms says where functions start',
      'take a kernel with CONFIG_KALLSYMS, or its vmlinux with symbols',
    );
  return {
    ...discoverIn(code, starts, Number.POSITIVE_INFINITY),
    functions: new Map([...starts].reverse().map(({ name, address }) => [name, address])),
  };
}

/**
 * The sensitive instructions of code that says where its functions start. 32-bit code.
 * @throws InputError if they are more than `most`
 */
export function discoverIn(
  code: readonly Code[],
  starts: readonly Start[],
  most: number,
): Omit<Discovery, 'functions'> {
  const all = code.map(
    (one): Decoded => ({
      code: one,
      decoder: new Decoder(32, one.bytes, DecoderOptions.None),
      lengths: new Uint8Array(one.bytes.length),
      targets: new Uint8Array(one.bytes.length),
    }),
  );
  const instruction = new Instruction();
  try {
    const runs = all.flatMap((decoded) => runsOf(decoded, starts));
    const markTarget = (address: number): void => {
      const decoded = all.find(({ code }) => holds(code, address));
      if (decoded) decoded.targets[address - decoded.code.address] = 1;
    };
    const swept = new Set(runs.filter((run) => sweep(run, instruction, markTarget)));
    const unproven = runs
      .filter((run) => !swept.has(run) || hasTargetInside(run))
      .flatMap((run) => descend(run, instruction));
    const sites: Site[] = [];
    for (const run of runs)
      for (const site of sitesOf(run, instruction))
        if (sites.push(site) > most) throw new InputError(`more than ${most} sensitive instructions`);
    return {
      sites: sites.sort((a, b) => a.address - b.address),
      instructions: all.reduce((sum, { lengths }) => sum + lengths.filter((length) => length > 0).length, 0),
      bytes: all.reduce((sum, { code: { bytes } }) => sum + bytes.length, 0),
      unproven,
    };
  } finally {
    for (const { decoder } of all) decoder.free();
    instruction.free();
  }
}

/** The sensitive instructions among the decoded ones of a run. */
function* sitesOf({ decoded, start, end, name }: Run, instruction: Instruction): Generator<Site> {
  const { code, lengths } = decoded;
  let record = 0;
  for (let at = start; at < end; at++) {
    const length = lengths[at]!;
    if (length === 0) continue;
    decodeAt(decoded, at, end, instruction);
    const kind = kindOfCode(instruction.code);
    if (kind)
      yield {
        record: record++,
        address: guestVirtual(code.address + at),
        offset: fileOffset(code.offset + at),
        length,
        widening: 0,
        domain: SITE_KINDS[kind].domain,
        kind,
        flags: 0,
        original: code.bytes.slice(at, at + length),
        operation: operationOf(instruction),
        section: code.name,
        function: name,
      };
  }
}
