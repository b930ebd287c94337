/** Guests that end themselves, lose themselves or ask for what a target refuses. */

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Guest, runs } from '../boots/guest.ts';
import { BIN, smallGuest } from './small-guest.ts';

const TIMEOUT = 60_000;

let work = '';
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), 'previrt-lost-'));
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

const guest = (name: string, vectors: number, body: string): string => smallGuest(work, name, vectors, body);

function run(elf: string, target: string): { status: number | null; output: string; messages: string } {
  const args = ['run', elf, '--target', target, '--memory', '32M'];
  const result = spawnSync(join(BIN, 'previrt'), args, { input: '', encoding: 'latin1', timeout: TIMEOUT });
  return { status: result.status, output: result.stdout, messages: result.stderr };
}

interface Case {
  readonly name: string;
  readonly vectors: number;
  readonly body: string;
  readonly status: number;
  readonly says: readonly string[];
}

/** Reads where the guest was told to map nothing, at 64 KiB into the range of a 4 MiB page. */
const mapsReserved = (range: string): Case => ({
  name: 'maps_the_reserved_range',
  vectors: 256,
  body: `movl $0x83, directory; movl $0x83, directory + ${range} / 0x400000 * 4
        mov %cr4, %eax; or $0x10, %eax; mov %eax, %cr4
        movl $directory, %eax; mov %eax, %cr3; mov %cr0, %eax; orl $0x80000000, %eax; mov %eax, %cr0
        movl ${range} + 0x10000, %eax`,
  status: 4,
  says: ['reservetop='],
});

const CASES: readonly Case[] = [
  { name: 'powers_off', vectors: 0, body: 'nop', status: 0, says: [] },
  { name: 'resets_by_triple_fault', vectors: 0, body: 'ud2', status: 0, says: [] },
  {
    name: 'resets_by_keyboard_controller',
    vectors: 0,
    body: 'mov $0xfe, %al; outb %al, $0x64; 1: jmp 1b',
    status: 0,
    says: [],
  },
  {
    name: 'triple_faults',
    vectors: 256,
    body: 'mov $0x12345678, %ebx; pushf; popf; ud2',
    status: 4,
    says: ['the guest is lost: triple fault', 'ebx 12345678', '<triple_faults>', 'last'],
  },
  {
    name: 'loses_its_code',
    vectors: 256,
    body: 'movl $directory, %eax; mov %eax, %cr3; mov %cr0, %eax; orl $0x80000000, %eax; mov %eax, %cr0; nop',
    status: 4,
    says: ['the guest is lost: triple fault', 'cr2 00200'],
  },
  {
    name: 'enters_virtual_8086_mode',
    vectors: 256,
    body: 'pushl $0x20002; pushl $0x10; push $1f; iret; 1: nop',
    status: 4,
    says: ['virtual-8086 mode, which is not supported'],
  },
];

/** What is the target's own. */
const HOSTED: readonly Case[] = [
  mapsReserved('0xf4800000'),
  {
    // Past everything the wedge does: a jump into 64-bit code that asks the host for a new process (57, fork).
    name: 'calls_the_host',
    vectors: 256,
    body: `.byte 0xea; .long 1f; .word 0x33
1:      .byte 0xb8, 57, 0, 0, 0, 0x0f, 0x05`,
    status: 4,
    says: ['ended by SIGSYS'],
  },
  {
    // The same for memory of the host's (9, mmap, of 4096 anonymous bytes), with the descriptor of its own: r8d is 4.
    name: 'wants_more_memory',
    vectors: 256,
    body: `mov $4096, %esi; mov $3, %edx; xor %edi, %edi
        .byte 0xea; .long 1f; .word 0x33
1:      .byte 0x41, 0xba, 0x22, 0, 0, 0, 0x41, 0xb8, 4, 0, 0, 0, 0x45, 0x31, 0xc9, 0xb8, 9, 0, 0, 0, 0x0f, 0x05
        ud2`,
    status: 4,
    says: ['ended by SIGSYS'],
  },
];

/** The wedge itself is mapped, for rings 1 and 2; above it lies what Xen keeps. */
const XEN: readonly Case[] = [mapsReserved('0xff000000')];

describe.each([
  { target: 'hosted', cases: [...CASES, ...HOSTED] },
  { target: 'xen', cases: [...CASES, ...XEN] },
])('on $target a guest that', ({ target, cases }) => {
  it.each(cases)(
    '$name ends with status $status and says so',
    ({ name, vectors, body, status, says }) => {
      const result = run(guest(name, vectors, body), target);
      expect(result.messages).not.toContain('Error');
      for (const text of says) expect(result.messages).toContain(text);
      if (says.length === 0) expect(result.messages).not.toContain('lost');
      expect(result.status).toBe(status);
    },
    TIMEOUT,
  );
});

describe('a guest whose console nobody reads any more', () => {
  it.each(['hosted', 'xen', 'bare'])(
    'goes on to its end on %s',
    (target) => {
      const body = `mov $60000, %ecx; mov $0x3f8, %edx
1:      mov $'x', %al; outb %al, %dx; loop 1b`;
      const elf = guest('writes_much', 0, body);
      const status = join(work, 'status');
      const command = `(${join(BIN, 'previrt')} run ${elf} --target ${target} --memory 32M 2>&1; echo $? > ${status}) | head -c 200`;
      spawnSync('sh', ['-c', command], { input: '', timeout: TIMEOUT });
      expect(readFileSync(status, 'latin1')).toBe('0\n');
    },
    TIMEOUT,
  );
});

describe('a guest whose previrt is killed', () => {
  it.each(['hosted', 'xen', 'bare'])(
    'ends with it on %s',
    async (target) => {
      const elf = guest('writes_for_ever', 0, "mov $0x3f8, %edx; 1: mov $'x', %al; outb %al, %dx; jmp 1b");
      const run = new Guest([elf, '--target', target, '--memory', '32M']);
      try {
        await run.expect(/xxxx/, TIMEOUT);
        const processes = run.children();
        expect(processes).toHaveLength(1);
        run.signal('SIGKILL');
        const { orphans } = await run.end(TIMEOUT);
        await expect.poll(() => orphans.filter(runs), { timeout: TIMEOUT }).toEqual([]);
      } finally {
        await run.close();
      }
    },
    TIMEOUT,
  );
});
