/**
 * The sensitive instructions of a kernel that was never annotated, found by
 * disassembly. Whoever changes bytes of code must know that they are an
 * instruction, so each run of code from one symbol to the next has to prove
 * itself: swept from its start it must decode without a remainder, and no
 * branch from anywhere may lead into the middle of one of its instructions.
 * Where that fails, only instructions that control flow reaches from its start
 * or from a branch elsewhere count; the other bytes are reported.
 */

import { Code, Decoder, DecoderOptions, FlowControl, Instruction, OpKind } from 'iced-x86';
import { codeSections, type ElfImage, type Section, sectionBytes } from '../elf/image.ts';
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

interface Start {
  readonly address: number;
  readonly name: string;
}

const holds = ({ sh_addr, sh_size }: Section, address: number): boolean =>
  address >= sh_addr && address < sh_addr + sh_size;

/** Where functions start: by the symbol table, or else by the kernel's own. */
function functionStarts(elf: ElfImage): Start[] {
  const code = codeSections(elf);
  const inCode = (address: number): boolean => code.some((section) => holds(section, address));
  const symbols = readSymbols(elf);
  const named =
    symbols.length > 0
      ? symbols.map(({ value, name }) => ({ address: value, name }))
      : readKallsyms(elf.bytes, inCode);
  return named.filter(({ address, name }) => name !== '' && inCode(address));
}

interface Decoded {
  readonly elf: ElfImage;
  readonly section: Section;
  readonly decoder: Decoder;
  /** For each byte the length of the instruction that starts there, or 0. */
  readonly lengths: Uint8Array;
  /** For each byte whether a branch leads there. */
  readonly targets: Uint8Array;
}

interface Run {
  readonly code: Decoded;
  /** Offsets in the section. */
  readonly start: number;
  readonly end: number;
  readonly name: string;
}

function runsOf(code: Decoded, starts: readonly Start[]): Run[] {
  const { sh_addr, sh_size } = code.section;
  const names = new Map<number, string>([[0, '']]);
  for (const { address, name } of starts)
    if (address >= sh_addr && address < sh_addr + sh_size) names.set(address - sh_addr, name);
  const cuts = [...names.keys()].sort((a, b) => a - b);
  return cuts.map((start, index) => ({
    code,
    start,
    end: cuts[index + 1] ?? sh_size,
    name: names.get(start)!,
  }));
}

const NEAR_BRANCHES: ReadonlySet<OpKind> = new Set([
  OpKind.NearBranch16,
  OpKind.NearBranch32,
  OpKind.NearBranch64,
]);

/** Decodes the instruction at an offset; false if there is none that ends by `end`. */
function decodeAt({ section, decoder }: Decoded, offset: number, end: number, into: Instruction): boolean {
  decoder.position = offset;
  decoder.ip = BigInt(section.sh_addr + offset);
  decoder.decodeOut(into);
  return into.code !== Code.INVALID && decoder.position <= end;
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
  { code, start, end }: Run,
  instruction: Instruction,
  onBranch: (target: number) => void,
): boolean {
  const targets: number[] = [];
  for (let at = start; at < end; at += code.lengths[at]!) {
    if (!decodeAt(code, at, end, instruction)) return false;
    code.lengths[at] = instruction.length;
    const target = branchTarget(instruction);
    if (target !== undefined) targets.push(target);
  }
  for (const target of targets) onBranch(target);
  return true;
}

/** Whether a branch leads into the middle of an instruction: then one of the two is no code. */
function hasTargetInside({ code: { lengths, targets }, start, end }: Run): boolean {
  for (let at = start; at < end; at++) if (targets[at] && lengths[at] === 0) return true;
  return false;
}

/**
 * Takes for instructions what control flow reaches inside a run, from its start
 * and from branches elsewhere, and returns the rest. An undefined instruction
 * ends a path, as ud2 does.
 */
function descend({ code, start, end, name }: Run, instruction: Instruction): Unproven[] {
  const { lengths, targets, section } = code;
  lengths.fill(0, start, end);
  const open = [start];
  for (let at = start + 1; at < end; at++) if (targets[at]) open.push(at);
  while (open.length > 0) {
    for (let at = open.pop()!; at >= start && at < end && lengths[at] === 0; ) {
      if (!decodeAt(code, at, end, instruction)) break;
      lengths[at] = instruction.length;
      const target = branchTarget(instruction);
      if (target !== undefined) open.push(target - section.sh_addr);
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
    if (at > covered) rest.push({ address: section.sh_addr + covered, length: at - covered, function: name });
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
  const starts = functionStarts(elf);
  if (starts.length === 0)
    throw new InputError(
      'neither a symbol table nor kallsyms says where functions start',
      'take a kernel with CONFIG_KALLSYMS, or its vmlinux with symbols',
    );
  const sections = codeSections(elf).map(
    (section): Decoded => ({
      elf,
      section,
      decoder: new Decoder(32, sectionBytes(elf, section), DecoderOptions.None),
      lengths: new Uint8Array(section.sh_size),
      targets: new Uint8Array(section.sh_size),
    }),
  );
  const instruction = new Instruction();
  try {
    const runs = sections.flatMap((code) => runsOf(code, starts));
    const markTarget = (address: number): void => {
      const code = sections.find(({ section }) => holds(section, address));
      if (code) code.targets[address - code.section.sh_addr] = 1;
    };
    const swept = new Set(runs.filter((run) => sweep(run, instruction, markTarget)));
    const unproven = runs
      .filter((run) => !swept.has(run) || hasTargetInside(run))
      .flatMap((run) => descend(run, instruction));
    const sites = runs.flatMap((run) => sitesOf(run, instruction));
    return {
      sites: sites.sort((a, b) => a.address - b.address),
      functions: new Map([...starts].reverse().map(({ name, address }) => [name, address])),
      instructions: sections.reduce(
        (sum, { lengths }) => sum + lengths.filter((length) => length > 0).length,
        0,
      ),
      bytes: sections.reduce((sum, { section }) => sum + section.sh_size, 0),
      unproven,
    };
  } finally {
    for (const { decoder } of sections) decoder.free();
    instruction.free();
  }
}

/** The sensitive instructions among the decoded ones of a run. */
function sitesOf({ code, start, end, name }: Run, instruction: Instruction): Site[] {
  const { section, lengths } = code;
  const bytes = sectionBytes(code.elf, section);
  const sites: Site[] = [];
  for (let at = start; at < end; at++) {
    const length = lengths[at]!;
    if (length === 0) continue;
    decodeAt(code, at, end, instruction);
    const kind = kindOfCode(instruction.code);
    if (kind)
      sites.push({
        record: sites.length,
        address: guestVirtual(section.sh_addr + at),
        offset: fileOffset(section.sh_offset + at),
        length,
        widening: 0,
        domain: SITE_KINDS[kind].domain,
        kind,
        flags: 0,
        original: bytes.slice(at, at + length),
        operation: operationOf(instruction),
        section: section.name,
        function: name,
      });
  }
  return sites;
}
