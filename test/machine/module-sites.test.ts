/** Sites of modules in the memory of a guest that nobody was told of. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InputError } from '../../src/elf/input-error.ts';
import { moduleSites } from '../../src/machine/module-sites.ts';
import { readVirtual } from '../../src/machine/paging.ts';
import { PAGE_SIZE } from '../../src/machine/ram.ts';
import { type OwnedPatchEntry, PATCH_NOT_BURNED, PATCH_TRAPS } from '../../src/sites/patch-table.ts';
import { guestVirtual } from '../../src/x86/address.ts';
import { SITE_KINDS } from '../../src/x86/site-kinds.ts';
import {
  DIRECTORY,
  LIST,
  MADE_SITES,
  MadeMemory,
  type MadeModule,
  type MadeSite,
} from './modules-fixture.ts';

const find = (memory: MadeMemory, kernel: readonly OwnedPatchEntry[] = []): OwnedPatchEntry[] =>
  moduleSites(memory.machine(), LIST, kernel);

/** What is expected of sites that lie one behind the other. */
function expected(sites: readonly MadeSite[], from: number, owner: number): OwnedPatchEntry[] {
  let address = from;
  return sites.map(({ kind, bytes, widening, flags = 0 }) => {
    const at = guestVirtual(address);
    address += bytes.length + 1;
    return {
      address: at,
      length: bytes.length,
      widening,
      domain: { cpu: 1, portio: 2, mmio: 3, pagetable: 4, entry: 5 }[SITE_KINDS[kind].domain],
      kind: SITE_KINDS[kind].id,
      flags,
      entry: PATCH_NOT_BURNED,
      original: Uint8Array.from(bytes),
      owner,
    };
  });
}

/** A function of a few instructions: a pushf, a cli, and a pop. */
const FUNCTION = [0x9c, 0xfa, 0x58, 0xc3] as const;

describe('modules that the toolchain has built', () => {
  it('none', () => expect(find(new MadeMemory([]))).toEqual([]));

  it('are found wherever their records lie, with their owner, by address', () => {
    const sites = fc.array(fc.constantFrom(...MADE_SITES), { minLength: 1, maxLength: 100 });
    const modules = fc.array(
      fc.record({ sites, initSites: sites, initGone: fc.boolean(), pad: fc.nat(4096) }),
      { minLength: 1, maxLength: 5 },
    );
    fc.assert(
      fc.property(modules, (made) => {
        const memory = new MadeMemory(made.map((module, index) => ({ ...module, name: `m${index}` })));
        expect(find(memory)).toEqual(
          made.flatMap((module, index) => {
            const { address, code, init } = memory.placed[index]!;
            return [
              ...expected(module.sites, code, address),
              ...(module.initGone ? [] : expected(module.initSites, init, address + 1)),
            ];
          }),
        );
      }),
      { numRuns: 50 },
    );
  });

  it("by the kernel's page tables, if those in use are of user code and do not show it", () => {
    const memory = new MadeMemory([{ name: 'isolated', sites: MADE_SITES }]);
    const { address, code } = memory.placed[0]!;
    const found = moduleSites(memory.machine(DIRECTORY + PAGE_SIZE), LIST, []);
    expect(found).toEqual(expected(MADE_SITES, code, address));
    for (const elsewhere of [0x6000, 0x7000, 0x8000_1000])
      expect(() => moduleSites(memory.machine(elsewhere), LIST, [])).toThrow('list of modules leads to');
  });

  it('with the slots that the kernel has copied elsewhere', () => {
    const alternative: MadeSite = {
      kind: 'pushf',
      bytes: [0x2e, 0x2e, 0x2e, 0x2e, 0x2e, 0x9c],
      widening: 5,
      flags: 4,
    };
    const copied = [0x58, ...alternative.bytes, 0x58];
    const memory = new MadeMemory([{ name: 'copied', sites: [...MADE_SITES, alternative], code: copied }]);
    const { address, code } = memory.placed[0]!;
    const sites = expected([...MADE_SITES, alternative], code, address);
    const last = sites.at(-1)!;
    const copy = { ...last, address: guestVirtual(last.address + last.length + 2) };
    expect(find(memory)).toEqual([...sites, copy]);
  });

  it('without the slots that the guest has changed itself', () => {
    const memory = new MadeMemory([{ name: 'patched', sites: MADE_SITES }]);
    const { address, code } = memory.placed[0]!;
    memory.write(code, [0xe9]);
    expect(find(memory)).toEqual(expected(MADE_SITES, code, address).slice(1));
  });

  it('without a slot that is widened otherwise than its record says', () => {
    const nops: MadeSite = { kind: 'sti', bytes: [0x90, 0x90, 0x90, 0x90, 0xfb], widening: 4 };
    const memory = new MadeMemory([{ name: 'nops', sites: [MADE_SITES[0]!, nops] }]);
    expect(find(memory)).toHaveLength(1);
  });
});

describe('modules without records', () => {
  const plain: MadeModule = {
    name: 'plain',
    code: [...FUNCTION, 0x90, 0x90, ...FUNCTION],
    functions: [
      [0, FUNCTION.length],
      [6, FUNCTION.length],
    ],
  };

  it('trap where they would silently do something else', () => {
    const memory = new MadeMemory([plain]);
    const { code, address } = memory.placed[0]!;
    expect(find(memory)).toMatchObject(
      [0, 6].map((offset) => ({
        address: code + offset,
        length: 1,
        kind: SITE_KINDS.pushf.id,
        entry: PATCH_TRAPS,
        owner: address,
      })),
    );
  });

  it('may have nothing sensitive', () => {
    const code = [0x58, 0xc3];
    expect(find(new MadeMemory([{ name: 'pure', code, functions: [[0, 2]] }]))).toEqual([]);
  });

  it.each<[string, Partial<MadeModule>, string]>([
    ['without symbols', { functions: [] }, 'nothing says where its functions are'],
    [
      'whose code leads nowhere',
      {
        code: [...FUNCTION, 0x0f, 0x04, 0x0f, 0x04, 0x05, ...FUNCTION],
        functions: [
          [0, 4],
          [9, 4],
        ],
      },
      'what lies at 0xc8000004 may be code or not',
    ],
    ['being initialized', { initSites: [{ ...MADE_SITES[0]!, widening: 5 }] }, 'is just being initialized'],
  ])('%s are refused', (_, change, message) => {
    expect(() => find(new MadeMemory([{ ...plain, ...change }]))).toThrow(
      `module plain: it has no site records, and ${message}`,
    );
  });
});

describe('a guest that cannot be understood is refused', () => {
  const good: MadeModule = { name: 'good', sites: MADE_SITES };

  it('with a module that just comes or goes', () => {
    expect(() => find(new MadeMemory([good, { ...good, name: 'new\n', state: 3 }]))).toThrow(
      'module new? is just being loaded or unloaded',
    );
  });
  it('of another version', () => {
    expect(() => find(new MadeMemory([good, { ...good, name: 'old', layout: false }]))).toThrow(
      'module old does not say where its code lies',
    );
  });
  it('with a module that is not all there', () => {
    const memory = new MadeMemory([good]);
    memory.unmap(memory.placed[0]!.code);
    expect(() => find(memory)).toThrow('module good: not all of its memory at 0xc8000000 is there');
  });
  it('with two sites in one place', () => {
    const memory = new MadeMemory([good]);
    const [site] = find(memory);
    expect(() => find(memory, [{ ...site!, address: guestVirtual(site!.address - 1), owner: 0 }])).toThrow(
      'module good has a site at 0xc8000000, inside one of the kernel',
    );
  });
  it('with a list that comes back to its middle, or leads nowhere', () => {
    const list = (change: (memory: MadeMemory, nodes: readonly number[]) => void) => {
      const memory = new MadeMemory([good, good, good]);
      change(
        memory,
        memory.placed.map(({ address }) => address + 4),
      );
      return () => find(memory);
    };
    expect(list((memory, [, second, third]) => memory.word(third!, second!))).toThrow(
      'is just changing its list of modules',
    );
    expect(list((memory) => memory.word(LIST, 0x1234_5678))).toThrow('leads to 0x12345678, where none is');
  });
  it('with a list that is longer than any', () => {
    const memory = new MadeMemory([]);
    const node = (index: number) => 0xc002_0004 + 0x50 * index;
    let before: number = LIST;
    for (let index = 0; index < 5000; index++) {
      memory.word(before, node(index));
      memory.word(node(index) + 4, before);
      before = node(index);
    }
    expect(() => find(memory)).toThrow('more than 4096');
  });
});

it('whatever the memory holds, sites are apart, as memory has them, and of a module; or it is refused', () => {
  const base = new MadeMemory([
    { name: 'one', sites: MADE_SITES, initSites: MADE_SITES },
    { name: 'two', code: [...FUNCTION], functions: [[0, 4]] },
    { name: 'three', sites: MADE_SITES, initSites: MADE_SITES, initGone: true },
  ]);
  const pages = base.placed.flatMap(({ code, init }) => [code, code + 0x1000, code + 0x3000, init]);
  /** The tables, the list, and everything of the modules. */
  const place = fc.oneof(
    fc
      .constantFrom(...pages, ...pages.map((page) => page + 0x40))
      .chain((page) => fc.nat(0x140).map((at) => base.at(page + at))),
    fc.nat(64).map((at) => 0x3000 + at),
    fc.nat(8).map((at) => base.at(LIST + at)),
  );
  const value = fc.oneof(fc.nat(255), fc.constantFrom(0, 1, 0x2e, 0x9c, 0xff));
  let found = 0;
  fc.assert(
    fc.property(fc.array(fc.tuple(place, value), { minLength: 1, maxLength: 8 }), (changes) => {
      const before = base.bytes.slice();
      for (const [at, byte] of changes) base.bytes[at] = byte;
      try {
        let end = 0;
        for (const site of find(base)) {
          found++;
          expect(site.address).toBeGreaterThanOrEqual(end);
          end = site.address + site.length;
          expect(readVirtual(base.machine(), site.address, site.length)).toEqual(site.original);
          expect(base.placed.map(({ address }): number => address)).toContain(site.owner - (site.owner % 2));
        }
      } catch (error) {
        if (!(error instanceof InputError)) throw error;
      } finally {
        base.bytes.set(before);
      }
    }),
    { numRuns: 300 },
  );
  expect(found).toBeGreaterThan(300);
});
