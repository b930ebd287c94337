/** The core of a domain: the guest in it comes out as it was, and what a stranger has made of it is refused in a line. */

import { closeSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, describe, expect, it, test } from 'vitest';
import { viewOf } from '../../src/elf/codec.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { ELF64_EHDR, ELF64_SHDR } from '../../src/elf/structs.ts';
import type { Machine } from '../../src/machine/state.ts';
import { PATCH_NOT_BURNED } from '../../src/sites/patch-table.ts';
import { coreState } from '../../src/targets/xen/core.ts';
import { offsetOf } from '../../src/x86/struct.ts';
import { machines } from '../machine/state-arbitrary.ts';
import { allOf, machineOf, StateFolder } from '../machine/state-fixture.ts';
import { type CoreParts, coreOf, domainOf, type Head, scrambled } from './core-fixture.ts';

const folder = new StateFolder();
afterAll(() => folder.remove());

/** Opens a core for as long as `body` runs. */
function withCore<T>(bytes: Uint8Array, body: (machine: Machine) => T): T {
  const path = folder.file('core');
  writeFileSync(path, bytes);
  const file = openSync(path, 'r');
  try {
    return body(coreState(file));
  } finally {
    closeSync(file);
  }
}

it('what the wedge tells comes out of a core', () => {
  fc.assert(
    fc.property(machines(), fc.nat(), fc.nat(5), (machine, seed, none) => {
      const core = coreOf({ ...domainOf(machine, scrambled(seed)), none });
      withCore(core, (read) => {
        expect(read.state).toEqual(machine.state);
        expect(read.sites).toEqual(machine.sites.map((site) => ({ ...site, entry: PATCH_NOT_BURNED })));
        expect(Buffer.compare(allOf(read), allOf(machine))).toBe(0);
      });
    }),
    { numRuns: 60 },
  );
});

const ram = new Uint8Array(20 * 4096).map((_, at) => at >> 8);
const machine = machineOf(ram);
const core = coreOf(domainOf(machine, scrambled(7)));

/** What is wrong with a core; nothing if nothing is. Anything but an InputError of one line is a failure. */
function complaint(bytes: Uint8Array): string | undefined {
  try {
    withCore(bytes, allOf);
    return undefined;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    expect(error.message).not.toContain('\n');
    return error.message;
  }
}

const domain = (head: Partial<Head>, parts: Partial<CoreParts> = {}): Uint8Array =>
  coreOf({ ...domainOf(machine, scrambled(7), head), ...parts });

/** A core with another number in the header of one of its sections. */
function withSection(index: number, field: string, value: bigint): Uint8Array {
  const bytes = new Uint8Array(core);
  const at = ELF64_EHDR.size + index * ELF64_SHDR.size + offsetOf(ELF64_SHDR, field);
  viewOf(bytes).setBigUint64(at, value, true);
  return bytes;
}

const NOTES = 2;
const PAGES = 4;
const TABLE = 5;
const HUGE = 2n ** 50n;

describe('refused by name', () => {
  test.each<[string, Uint8Array, string]>([
    ['another file', Buffer.from('#!/bin/sh\n'), 'not the core of a domain'],
    ['nothing', new Uint8Array(0), 'not the core of a domain'],
    ['a domain with hardware virtualization', domain({}, { magic: 0xf00f_ebeen }), 'not paravirtualized'],
    ['a domain without frames', domain({}, { table: '.xen_pfn' }), 'not paravirtualized'],
    ['a newer format', domain({}, { version: 2n ** 32n }), 'section .note.Xen: version 1.0 of the format'],
    ['other pages', domain({}, { pageSize: 16_384n }), 'pages of 16384 bytes'],
    ['another guest', domain({ magic: 1 }), 'not started from an image that previrt has made'],
    ['another version', domain({ version: 1 }), 'of another version of previrt'],
    ['a guest that runs', domain({ told_frame: 0 }), 'the guest in it does not stand still'],
    [
      'a frame that is nowhere',
      domain({ told_frame: 0xffff_ffff }),
      'machine frame 4294967295, which is not there',
    ],
    [
      'pages of state without end',
      domain({ told_pages: 0xffff_ffff }),
      'the wedge tells of 4294967295 pages',
    ],
    ['no first page', domain({}, { frames: [] }), 'section .xen_p2m'],
    [
      'sections without end',
      withSection(NOTES, 'sh_size', HUGE),
      'section .note.Xen has 1125899906842624 bytes',
    ],
    [
      'pages without end',
      withSection(PAGES, 'sh_size', HUGE),
      'section .xen_pages has 1125899906842624 bytes',
    ],
    ['pages far away', withSection(PAGES, 'sh_offset', HUGE), 'truncated: section .xen_pages should lie at'],
    ['a table far away', withSection(TABLE, 'sh_offset', HUGE), 'truncated: section .xen_p2m should lie at'],
    ['a negative place', withSection(TABLE, 'sh_offset', 2n ** 64n - 4096n), 'truncated: section .xen_p2m'],
  ])('%s', (_, bytes, message) => {
    expect(complaint(bytes)).toContain(message);
  });

  it('a sparse file that says it has all pages there are', () => {
    const path = folder.file('sparse');
    const file = openSync(path, 'w+');
    const count = 2n ** 38n;
    const large = coreOf({ ...domainOf(machine, scrambled(7)), none: 0 });
    const view = viewOf(large);
    // The number of pages stands in the second note, behind magic and processors.
    const notes = Number(view.getBigUint64(ELF64_EHDR.size + NOTES * ELF64_SHDR.size + 24, true));
    view.setBigUint64(notes + 16 + 16 + 16, count, true);
    writeSync(file, large);
    ftruncateSync(file, 2 ** 43);
    try {
      expect(() => coreState(file)).toThrow(/274877906944 pages of 4096 bytes are no domain/);
    } finally {
      closeSync(file);
    }
  });
});

it('every truncation is refused', () => {
  for (let length = 0; length < core.length; length += length < 2000 ? 1 : 1009)
    expect(complaint(core.subarray(0, length)), `${length} bytes`).toBeDefined();
  expect(complaint(core.subarray(0, -1))).toBeDefined();
  expect(complaint(core)).toBeUndefined();
});

it('no change of bytes does more than be refused, or change what comes out', () => {
  const interesting = fc.oneof(
    fc.nat(2000),
    fc.nat(16 * 40).map((back) => core.length - 1 - back),
    fc.nat(core.length - 1),
  );
  const change = fc.tuple(interesting, fc.constantFrom(0, 1, 0x7f, 0x80, 0xff));
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 6 }), (changes) => {
      const damaged = new Uint8Array(core);
      for (const [at, value] of changes) damaged[at] = value;
      complaint(damaged);
    }),
    { numRuns: 400 },
  );
});
