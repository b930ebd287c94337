/** gdb opens a machine state as the core file that it is, with the kernel's symbols. */

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseElf } from '../../src/elf/image.ts';
import { PT } from '../../src/elf/structs.ts';
import { KERNEL_BASE, machineOf, PAGINGS, StateFolder } from './state-fixture.ts';

const SOURCE = `
struct list { struct list *next; int value; };
struct list second = { 0, 2468 }, first = { &second, 1357 };
struct list *head = &first;
int zeros[2048];
__attribute__((noinline)) void stopped_here(void) { __asm__ volatile("hlt"); }
void _start(void) { stopped_here(); }
`;

const RAM_SIZE = 16 * 2 ** 20;
const LINKED = KERNEL_BASE + 0x10_0000;
const folder = new StateFolder();
const kernel = folder.file('kernel');

beforeAll(() => {
  writeFileSync(folder.file('kernel.c'), SOURCE);
  const link = [
    '-nostdlib',
    '-static',
    '-no-pie',
    '-Wl,--build-id=none',
    `-Wl,-Ttext=0x${LINKED.toString(16)}`,
  ];
  execFileSync('gcc', [
    '-m32',
    '-g',
    '-O1',
    '-ffreestanding',
    '-fno-pic',
    ...link,
    '-o',
    kernel,
    folder.file('kernel.c'),
  ]);
});
afterAll(() => folder.remove());

/** RAM as a boot loader leaves it: the kernel's segments where they were linked, less KERNEL_BASE. */
function bootedRam(): Uint8Array {
  const ram = new Uint8Array(RAM_SIZE);
  const { segments, bytes } = parseElf(readFileSync(kernel));
  for (const { p_type, p_vaddr, p_offset, p_filesz } of segments)
    if (p_type === PT.LOAD && p_vaddr >= LINKED)
      ram.set(bytes.subarray(p_offset, p_offset + p_filesz), p_vaddr - KERNEL_BASE);
  return ram;
}

const gdb = (state: string, ...commands: string[]): string =>
  execFileSync(
    'gdb',
    ['-nx', '-batch', ...commands.flatMap((command) => ['-ex', command]), kernel, folder.file(state)],
    {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, LC_ALL: 'C', DEBUGINFOD_URLS: '' },
    },
  );

/** Address of a symbol, as nm tells it. */
const addressOf = (symbol: string): number =>
  Number.parseInt(
    execFileSync('nm', [kernel], { encoding: 'utf8' }).match(new RegExp(`^(\\w+) . ${symbol}$`, 'm'))![1]!,
    16,
  );

describe.each(Object.keys(PAGINGS))('%s', (paging) => {
  it('shows registers, and variables by their virtual addresses', () => {
    const ram = bootedRam();
    const eip = addressOf('stopped_here');
    const cpu = PAGINGS[paging]!(ram);
    const machine = machineOf(ram, {
      ...cpu,
      eip,
      gpr: [0x11111111, 2, 3, 4, KERNEL_BASE + 0x5000, 6, 7, 8],
      eflags: 0x46,
      interrupt_flag: 0x200,
    });
    folder.write('state', machine);
    const output = gdb(
      'state',
      'info registers eip eax edi eflags',
      'print head->value',
      'print head->next->value',
      'print zeros[2000]',
      'x/i $eip',
      'info registers mxcsr',
    );
    expect(output).toMatch(new RegExp(`eip +0x${eip.toString(16)} +0x${eip.toString(16)} <stopped_here>`));
    expect(output).toMatch(/eax +0x11111111/);
    expect(output).toMatch(/edi +0x8 /);
    expect(output).toMatch(/eflags +0x246 +\[ (?=.*IF).*\]/);
    expect(output).toContain('$1 = 1357');
    expect(output).toContain('$2 = 2468');
    expect(output).toContain('$3 = 0');
    expect(output).toMatch(/=> 0x\w+ <stopped_here>:\s+hlt/);
  });
});
