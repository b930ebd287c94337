/** The generated C headers of the hosted wedge. Pure: file name to text. */

import { CPU, SEGMENT, TABLE_REGISTER } from '../../machine/cpu.ts';
import { deviceStateHeader } from '../../machine/devices.ts';
import { PATCH_ENTRY } from '../../sites/patch-table.ts';
import {
  CONTROL_PAGE,
  ENTRY_BASE,
  ENTRY_SIZE,
  HOSTED_END,
  HOSTED_ENTRIES,
  LOW_CODE,
  LOW_WINDOW,
  POINTER_PAGE,
  WEDGE_BASE,
} from '../../substitution/hosted-entries.ts';
import { DOMAINS, SITE_KINDS } from '../../x86/site-kinds.ts';
import { SITE_FLAGS } from '../../x86/site-record.ts';
import { cOffsets, cStruct } from '../../x86/struct.ts';
import { RUN_STATUS } from '../target.ts';
import {
  BOOT_CHUNK,
  BOOT_FD,
  BOOT_HEADER,
  BOOT_MAGIC,
  BOOT_VERSION,
  CONTROL,
  DISK_FD,
  KNOWN_DESCRIPTOR,
} from './layout.ts';

const hex = (value: number): string => `0x${value.toString(16)}`;
const define = (name: string, value: string): string => `#define ${name} ${value}\n`;

function constants(): string {
  return [
    define('WEDGE_BASE', hex(WEDGE_BASE)),
    define('CONTROL_PAGE', hex(CONTROL_PAGE)),
    define('POINTER_PAGE', hex(POINTER_PAGE)),
    define('ENTRY_BASE', hex(ENTRY_BASE)),
    define('ENTRY_SIZE', String(ENTRY_SIZE)),
    define('LOW_CODE', hex(LOW_CODE)),
    define('LOW_WINDOW', hex(LOW_WINDOW)),
    define('HOSTED_END', hex(HOSTED_END)),
    define('ENTRY_COUNT', String(HOSTED_ENTRIES.length)),
    define('BOOT_MAGIC', hex(BOOT_MAGIC)),
    define('BOOT_VERSION', String(BOOT_VERSION)),
    define('BOOT_FD', String(BOOT_FD)),
    define('DISK_FD', String(DISK_FD)),
    ...Object.entries(RUN_STATUS).map(([name, value]) =>
      define(`STATUS_${name.toUpperCase()}`, String(value)),
    ),
    ...Object.entries(DOMAINS).map(([name, id]) => define(`DOMAIN_${name}`, String(id))),
    ...Object.entries(SITE_FLAGS).map(([name, bit]) => define(`SITE_${name}`, String(bit))),
    ...Object.entries(SITE_KINDS).map(([name, { id }]) => define(`KIND_${name}`, String(id))),
  ].join('');
}

const guarded = (name: string, ...parts: string[]): string =>
  `/* Generated. */\n#ifndef PREVIRT_${name}\n#define PREVIRT_${name}\n${parts.join('\n')}\n#endif\n`;

/** Every header by its path under the include directory. */
export function hostedHeaders(): ReadonlyMap<string, string> {
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
    [
      'generated/hosted.h',
      guarded(
        'HOSTED_LAYOUT_H',
        constants(),
        HOSTED_ENTRIES.map((name, index) => define(`ENTRY_${name}`, String(index))).join(''),
        '#include "generated/cpu-state.h"',
        cStruct(KNOWN_DESCRIPTOR),
        cStruct(CONTROL),
        cStruct(BOOT_HEADER),
        cStruct(BOOT_CHUNK),
        cStruct(PATCH_ENTRY),
      ),
    ],
    [
      'generated/hosted-entries.h',
      guarded(
        'HOSTED_ENTRIES_H',
        constants(),
        // Assembler symbols, because gas builds their names in macros.
        HOSTED_ENTRIES.map((name, index) => `.set ENTRY_${name}, ${index}\n`).join(''),
        cOffsets(CPU),
        cOffsets(SEGMENT),
        define('SEGMENT_SIZE', String(SEGMENT.size)),
        cOffsets(KNOWN_DESCRIPTOR),
        cOffsets(CONTROL),
      ),
    ],
  ]);
}
