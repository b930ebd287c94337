/**
 * Audit: disassembles the code of an image and finds every sensitive
 * instruction that no site covers.
 *
 * Sweeping straight through a section would take tables for code and lose its
 * step after them. So data objects are left out, the sweep starts over at each
 * symbol and at each function's end, and where an instruction would run across
 * such a place or into a site, it goes on from there.
 */

import { Code, Decoder, DecoderOptions, Formatter, FormatterSyntax, Instruction } from 'iced-x86';
import { codeSections, type ElfImage, type Section, sectionBytes } from '../elf/image.ts';
import { STT } from '../elf/structs.ts';
import { type ElfSymbol, functionMap, readSymbols } from '../elf/symbols.ts';
import type { SiteKindName } from '../x86/site-kinds.ts';
import { embeddedImages } from './embedded.ts';
import { kindOfCode } from './instructions.ts';
import type { Site } from './site.ts';

export interface Finding {
  /** In the image; for code of an embedded one, where its bytes lie. */
  readonly address: number;
  /** The site kind it should have, or `privileged` for an instruction that traps and has none. */
  readonly kind: SiteKindName | 'privileged';
  /** AT&T syntax. */
  readonly instruction: string;
  readonly section: string;
  /** Function around it, '' if no symbol tells. */
  readonly function: string;
}

export interface Audit {
  readonly findings: readonly Finding[];
  readonly instructions: number;
  /** Bytes of code in functions that the decoder could make nothing of. */
  readonly undecodedBytes: number;
}

interface Slot {
  readonly address: number;
  readonly length: number;
}

/** A run of code, in offsets from the start of its section. */
interface Run {
  readonly start: number;
  readonly end: number;
}

/**
 * The section cut where each symbol begins and where a sized one ends, without
 * data objects. What lies between functions counts as well: padding decodes to
 * harmless instructions, and a weak function that another one overrides leaves
 * its code without a symbol.
 */
function runsOf(section: Section, symbols: readonly ElfSymbol[]): Run[] {
  const inside = symbols.filter((symbol) => symbol.section === section.index && symbol.type <= STT.FUNC);
  const objects = inside.filter((symbol) => symbol.type === STT.OBJECT && symbol.size > 0);
  const cuts = [
    section.sh_addr,
    ...inside.flatMap((symbol) => [symbol.value, symbol.value + symbol.size]),
    section.sh_addr + section.sh_size,
  ]
    .map((address) => Math.min(Math.max(address - section.sh_addr, 0), section.sh_size))
    .sort((a, b) => a - b);
  return cuts
    .flatMap((start, index) => {
      const end = cuts[index + 1] ?? start;
      return end > start ? [{ start, end }] : [];
    })
    .filter(({ start }) => {
      const address = start + section.sh_addr;
      return !objects.some(({ value, size }) => address >= value && address < value + size);
    });
}

const formatter = (): Formatter => {
  const made = new Formatter(FormatterSyntax.Gas);
  made.spaceAfterOperandSeparator = true;
  return made;
};

/** @param sites those of this image itself, by address */
function auditImage(elf: ElfImage, sites: readonly Slot[]): Audit {
  const symbols = readSymbols(elf);
  const functions = functionMap(elf, symbols);
  const instruction = new Instruction();
  const text = formatter();
  const findings: Finding[] = [];
  let instructions = 0;
  let undecodedBytes = 0;
  try {
    for (const section of codeSections(elf)) {
      const slots = sites
        .filter(({ address }) => address >= section.sh_addr && address < section.sh_addr + section.sh_size)
        .map(({ address, length }) => ({ start: address - section.sh_addr, length }));
      const decoder = new Decoder(elf.class, sectionBytes(elf, section), DecoderOptions.None);
      try {
        let slot = 0;
        for (const run of runsOf(section, symbols)) {
          while (slot < slots.length && slots[slot]!.start < run.start) slot++;
          let position = run.start;
          while (position < run.end) {
            const nextSlot = slots[slot];
            if (nextSlot && position === nextSlot.start) {
              position += nextSlot.length;
              slot++;
              continue;
            }
            const boundary = nextSlot && nextSlot.start < run.end ? nextSlot.start : run.end;
            decoder.position = position;
            decoder.decodeOut(instruction);
            const { code } = instruction;
            const end = decoder.position;
            if (code === Code.INVALID || end > boundary) {
              undecodedBytes += boundary - position;
              position = boundary;
              continue;
            }
            instructions++;
            const kind = kindOfCode(code) ?? (instruction.isPrivileged ? 'privileged' : undefined);
            if (kind) {
              const address = section.sh_addr + position;
              findings.push({
                address,
                kind,
                instruction: text.format(instruction),
                section: section.name,
                function: functions.at(address)?.name ?? '',
              });
            }
            position = end;
          }
        }
      } finally {
        decoder.free();
      }
    }
  } finally {
    instruction.free();
    text.free();
  }
  return { findings, instructions, undecodedBytes };
}

/** @param sites all sites of the kernel, its vDSO's included, by address */
export function audit(elf: ElfImage, sites: readonly Site[]): Audit {
  const audits = [
    auditImage(elf, sites),
    ...embeddedImages(elf).map((embedded) => {
      const shift = (offset: number) => embedded.address + offset;
      const own = codeSections(embedded.elf).flatMap((section) =>
        sites
          .map(({ address, length }) => ({ address: address - shift(section.sh_offset), length }))
          .filter(({ address }) => address >= 0 && address < section.sh_size)
          .map(({ address, length }) => ({ address: address + section.sh_addr, length })),
      );
      const found = auditImage(embedded.elf, own);
      return {
        ...found,
        findings: found.findings.map((finding) => {
          const section = embedded.elf.sections.find(({ name }) => name === finding.section)!;
          return {
            ...finding,
            address: shift(finding.address - section.sh_addr + section.sh_offset),
            section: `vdso:${finding.section}`,
          };
        }),
      };
    }),
  ];
  return {
    findings: audits.flatMap(({ findings }) => findings),
    instructions: audits.reduce((sum, { instructions }) => sum + instructions, 0),
    undecodedBytes: audits.reduce((sum, { undecodedBytes }) => sum + undecodedBytes, 0),
  };
}
