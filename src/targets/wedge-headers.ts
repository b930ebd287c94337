/** The C headers that every wedge is built with, generated from the tables in TypeScript. Pure: file name to text. */

import { CPU, SEGMENT, TABLE_REGISTER } from '../machine/cpu.ts';
import { deviceStateHeader } from '../machine/devices.ts';
import {
  FEATURE_WORDS,
  FPU_FORMAT,
  FPU_SIZE,
  MACHINE_STATE,
  STATE_MAGIC,
  STATE_VERSION,
} from '../machine/state.ts';
import { VIRTUAL_PC_VERSION } from '../machine/virtual-pc.ts';
import { ALTERNATIVE_LAYOUTS } from '../sites/alternatives.ts';
import {
  PATCH_COPY,
  PATCH_ENTRY,
  PATCH_GUESTS,
  PATCH_NOT_BURNED,
  PATCH_TABLE_HEADER,
  PATCH_TABLE_MAGIC,
  PATCH_TABLE_VERSION,
  PATCH_TRAPS,
  TRAPPING_BYTE,
} from '../sites/patch-table.ts';
import {
  CONTROL_PAGE,
  ENTRY_BASE,
  ENTRY_SIZE,
  entryIndex,
  POINTER_PAGE,
  WEDGE_BASE,
  WEDGE_ENTRIES,
} from '../substitution/entries.ts';
import { hotPatterns } from '../substitution/patterns.ts';
import { CS_PREFIX, FORMS } from '../substitution/template.ts';
import type { GuestVirtual } from '../x86/address.ts';
import { DOMAINS, SITE_KINDS } from '../x86/site-kinds.ts';
import { SITE_FLAGS, SITE_RECORD_VERSION } from '../x86/site-record.ts';
import { cOffsets, cStruct } from '../x86/struct.ts';
import {
  BOOT_CHUNK,
  BOOT_HEADER,
  BOOT_MAGIC,
  BOOT_VERSION,
  COUNT,
  COUNT_MARK,
  RAM_COMES,
} from './boot-layout.ts';
import { CONTROL_BYTE } from './command.ts';
import { CONTROL, KNOWN_DESCRIPTOR, WATCHED } from './control.ts';
import { RUN_STATUS } from './target.ts';

export const hex = (value: number): string => `0x${value.toString(16)}`;
export const define = (name: string, value: string): string => `#define ${name} ${value}\n`;

export const guarded = (name: string, ...parts: string[]): string =>
  `/* Generated. */\n#ifndef PREVIRT_${name}\n#define PREVIRT_${name}\n${parts.join('\n')}\n#endif\n`;

const constants = (): string =>
  [
    define('WEDGE_BASE', hex(WEDGE_BASE)),
    define('CONTROL_PAGE', hex(CONTROL_PAGE)),
    define('POINTER_PAGE', hex(POINTER_PAGE)),
    define('ENTRY_BASE', hex(ENTRY_BASE)),
    define('ENTRY_SIZE', String(ENTRY_SIZE)),
    define('ENTRY_COUNT', String(WEDGE_ENTRIES.length)),
    define('PATCH_TABLE_MAGIC', hex(PATCH_TABLE_MAGIC)),
    define('PATCH_TABLE_VERSION', String(PATCH_TABLE_VERSION)),
    define('PATCH_NOT_BURNED', hex(PATCH_NOT_BURNED)),
    define('PATCH_TRAPS', hex(PATCH_TRAPS)),
    define('PATCH_GUESTS', hex(PATCH_GUESTS)),
    define('PATCH_COPY', hex(PATCH_COPY)),
    define('TRAPPING_BYTE', hex(TRAPPING_BYTE)),
    define('CONTROL_BYTE', hex(CONTROL_BYTE)),
    define('SITE_RECORD_VERSION', String(SITE_RECORD_VERSION)),
    define('WATCHED', String(WATCHED)),
    define('KNOWN_DESCRIPTOR_SIZE', String(KNOWN_DESCRIPTOR.size)),
    ...Object.entries(RUN_STATUS).map(([name, value]) =>
      define(`STATUS_${name.toUpperCase()}`, String(value)),
    ),
    ...Object.entries(DOMAINS).map(([name, id]) => define(`DOMAIN_${name}`, String(id))),
    ...Object.entries(SITE_FLAGS).map(([name, bit]) => define(`SITE_${name}`, String(bit))),
    ...Object.entries(SITE_KINDS).map(([name, { id }]) => define(`KIND_${name}`, String(id))),
  ].join('');

/** The boot file's structures. */
const bootHeader = (): string =>
  [
    define('BOOT_MAGIC', hex(BOOT_MAGIC)),
    define('BOOT_VERSION', String(BOOT_VERSION)),
    ...Object.entries(RAM_COMES).map(([name, value]) => define(`RAM_${name}`, String(value))),
    cStruct(BOOT_HEADER),
    cStruct(BOOT_CHUNK),
  ].join('');

const list = (values: readonly number[]): string => `{${values.map(hex).join(', ')}}`;

/** The order in which CPUID's results are asked for. */
const CPUID_REGISTERS = ['eax', 'ebx', 'ecx', 'edx'] as const;

const machineState = (): string =>
  [
    define('VIRTUAL_PC_VERSION', String(VIRTUAL_PC_VERSION)),
    define('STATE_MAGIC', hex(STATE_MAGIC)),
    define('STATE_VERSION', String(STATE_VERSION)),
    define('FPU_SIZE', String(FPU_SIZE)),
    ...Object.entries(FPU_FORMAT).map(([name, value]) => define(`FPU_${name}`, String(value))),
    cStruct(MACHINE_STATE),
    'static const struct {\n    u32 leaf, subleaf, word;\n} feature_words[] = {\n',
    ...FEATURE_WORDS.map(
      ({ leaf, subleaf, register }) =>
        `    {${hex(leaf)}, ${subleaf}, ${CPUID_REGISTERS.indexOf(register)}},\n`,
    ),
    '};\n',
  ].join('');

/** How the wedge burns: the same as burn.ts, as tables. */
const burnTables = (): string =>
  [
    define('SLOT_FILLER', hex(CS_PREFIX)),
    '/* Instructions that have an entry of their own. */\n',
    'static const struct {\n    u8 kind, length, bytes[4];\n    u16 entry;\n} hot_patterns[] = {\n',
    ...hotPatterns().map(
      ({ kind, bytes, entry }) =>
        `    {${SITE_KINDS[kind].id}, ${bytes.length}, ${list(bytes)}, ${entryIndex(entry)}}, /* ${kind} */\n`,
    ),
    '};\n/* The forms of a call, by what it reaches the entry. */\n',
    'struct call_form {\n    u8 length, opcode[2];\n};\n',
    ...Object.entries(FORMS).map(
      ([form, { opcode }]) =>
        `static const struct call_form call_${form} = {${opcode.length}, ${list(opcode)}};\n`,
    ),
  ].join('');

/** Linux' struct alt_instr: where the lengths stand. */
const alternativeLayouts = (): string =>
  [
    'static const struct {\n    u8 size, target_length, length;\n} alternative_layouts[] = {\n',
    ...ALTERNATIVE_LAYOUTS.map(
      ({ size, target, replacement }) => `    {${size}, ${target}, ${replacement}},\n`,
    ),
    '};\n',
  ].join('');

/**
 * Every shared header by its path under the include directory.
 * @param entryEnd end of the code between ENTRY_BASE and which guest code never runs
 */
export function wedgeHeaders(entryEnd: GuestVirtual): ReadonlyMap<string, string> {
  return new Map([
    [
      'generated/cpu-state.h',
      guarded(
        'CPU_STATE_H',
        '#include "core/types.h"',
        cStruct(SEGMENT),
        cStruct(TABLE_REGISTER),
        cStruct(CPU),
        'extern struct cpu cpu;\n',
      ),
    ],
    ['generated/devices-state.h', deviceStateHeader()],
    ['generated/boot.h', guarded('BOOT_LAYOUT_H', '#include "core/types.h"', bootHeader())],
    [
      'generated/machine-state.h',
      guarded(
        'MACHINE_STATE_H',
        '#include "generated/cpu-state.h"',
        '#include "generated/devices-state.h"',
        machineState(),
      ),
    ],
    [
      'generated/run.h',
      guarded(
        'RUN_LAYOUT_H',
        constants(),
        define('ENTRY_END', hex(entryEnd)),
        ...Object.entries(COUNT).map(([name, bit]) => define(`COUNT_${name}`, String(bit))),
        define('COUNT_MARK', JSON.stringify(COUNT_MARK)),
        WEDGE_ENTRIES.map((name, index) => define(`ENTRY_${name}`, String(index))).join(''),
        '#include "generated/cpu-state.h"',
        cStruct(KNOWN_DESCRIPTOR),
        cStruct(CONTROL),
        cStruct(PATCH_TABLE_HEADER),
        cStruct(PATCH_ENTRY),
      ),
    ],
    ['generated/alternatives.h', guarded('ALTERNATIVES_H', '#include "core/types.h"', alternativeLayouts())],
    ['generated/burn.h', guarded('BURN_TABLES_H', '#include "core/types.h"', burnTables())],
    [
      'generated/run-asm.h',
      guarded(
        'RUN_ASM_H',
        constants(),
        // Assembler symbols, because gas builds their names in macros.
        WEDGE_ENTRIES.map((name, index) => `.set ENTRY_${name}, ${index}\n`).join(''),
        cOffsets(CPU),
        cOffsets(SEGMENT),
        define('SEGMENT_SIZE', String(SEGMENT.size)),
        cOffsets(KNOWN_DESCRIPTOR),
        cOffsets(CONTROL),
      ),
    ],
  ]);
}
