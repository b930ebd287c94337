import fc from 'fast-check';
import { Code, Decoder, DecoderOptions } from 'iced-x86';
import { describe, expect, test } from 'vitest';
import { parseElf } from '../../src/elf/image.ts';
import { InputError } from '../../src/elf/input-error.ts';
import { readAllSites } from '../../src/sites/embedded.ts';
import { PATCH_NOT_BURNED } from '../../src/sites/patch-table.ts';
import { type BurnOptions, burn } from '../../src/substitution/burn.ts';
import { readBurnInfo, readPatchTable } from '../../src/substitution/burn-info.ts';
import {
  ENTRY_BASE,
  entryAddress,
  entryPointerAddress,
  WEDGE_ENTRIES,
} from '../../src/substitution/entries.ts';
import { BURN_TARGETS, burnTarget, selectSubstitution } from '../../src/substitution/select.ts';
import { callTemplate, instantiate } from '../../src/substitution/template.ts';
import { unburn } from '../../src/substitution/unburn.ts';
import { guestVirtual } from '../../src/x86/address.ts';
import { DOMAINS, type DomainName } from '../../src/x86/site-kinds.ts';
import { SITE_FLAGS } from '../../src/x86/site-record.ts';
import {
  FIXTURE_SITES,
  type FixtureSite,
  linkImage,
  linkVdso,
  sitesText,
  withOverlap,
} from '../sites/fixture.ts';

const ALL = Object.keys(DOMAINS) as DomainName[];
const HOSTED: BurnOptions = { target: 'hosted', domains: ALL, keep: 'table', wedge: new Uint8Array(0) };
const image = linkImage({ text: sitesText(), embedded: linkVdso() });
const sites = readAllSites(parseElf(image));

/** The one instruction that fills a slot: its code, and the address that it calls or calls through. */
function decodeCall(slot: Uint8Array, address: number): { code: Code; target: number } {
  const decoder = new Decoder(32, slot, DecoderOptions.None);
  decoder.ip = BigInt(address);
  const instruction = decoder.decode();
  try {
    expect(instruction.length).toBe(slot.length);
    const { code } = instruction;
    const target =
      code === Code.Call_rel32_32 ? instruction.nearBranchTarget : instruction.memoryDisplacement;
    return { code, target: Number(BigInt.asUintN(32, target)) };
  } finally {
    instruction.free();
    decoder.free();
  }
}

describe('templates', () => {
  test('a relative call fills any slot at any address with one instruction', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 5, max: 15 }),
        fc.integer({ min: 0, max: 0xf4ff_fff0 }),
        fc.constantFrom(...WEDGE_ENTRIES),
        (length, address, entry) => {
          const slot = instantiate(
            callTemplate('relative', entryAddress(entry), length),
            guestVirtual(address),
          );
          expect(decodeCall(slot, address)).toEqual({
            code: Code.Call_rel32_32,
            target: entryAddress(entry),
          });
        },
      ),
    );
  });

  test('an absolute call is the same bytes everywhere', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 6, max: 15 }),
        fc.integer({ min: 0, max: 0xf4ff_fff0 }),
        fc.constantFrom(...WEDGE_ENTRIES),
        (length, address, entry) => {
          const template = callTemplate('absolute', entryPointerAddress(entry), length);
          const slot = instantiate(template, guestVirtual(address));
          expect(slot).toEqual(instantiate(template, guestVirtual(0)));
          expect(decodeCall(slot, address)).toEqual({
            code: Code.Call_rm32,
            target: entryPointerAddress(entry),
          });
        },
      ),
    );
  });

  test('a slot that is too short is refused', () => {
    expect(() => callTemplate('relative', ENTRY_BASE, 4)).toThrow(RangeError);
    expect(() => callTemplate('absolute', ENTRY_BASE, 5)).toThrow(RangeError);
  });
});

test('what unburning would not find again is not burned', () => {
  const overlapping = withOverlap(image);
  const burning = () => burn(overlapping, HOSTED);
  expect(burning).toThrow(InputError);
  expect(burning).toThrow('another section of the kernel has the address of the site at 0xc1000000 too');
});

describe('the choice of substitutions', () => {
  const choose = (site: FixtureSite) => {
    const text = sitesText([site]);
    const [found] = readAllSites(parseElf(linkImage({ text })));
    return selectSubstitution(found!, BURN_TARGETS.hosted);
  };
  const { absolute } = SITE_FLAGS;

  // kind, instruction, redundant prefixes, flags -> entry, form
  test.each([
    ['cli', 'cli', 4, 0, 'cli', 'relative'],
    ['cli', 'cli', 5, absolute, 'cli', 'absolute'],
    ['pushf', 'pushfl', 4, 0, 'pushf', 'relative'],
    ['pushf', 'pushfw', 3, 0, 'emulate', 'relative'],
    ['iret', 'iretl', 4, 0, 'iret', 'relative'],
    ['in', 'inb %dx, %al', 4, 0, 'in8', 'relative'],
    ['in', 'inw %dx, %ax', 3, 0, 'in16', 'relative'],
    ['in', 'inl $4, %eax', 3, 0, 'emulate', 'relative'],
    ['out', 'outl %eax, %dx', 4, 0, 'out32', 'relative'],
    ['push_seg', 'push %ss', 4, 0, 'push_ss', 'relative'],
    ['push_seg', 'pushw %ds', 3, 0, 'emulate', 'relative'],
    ['pop_seg', 'pop %gs', 3, 0, 'pop_gs', 'relative'],
    ['pop_seg', 'pop %ss', 4, 0, 'emulate', 'relative'],
    ['mov_to_seg', 'mov %ecx, %es', 3, 0, 'mov_es_ecx', 'relative'],
    ['mov_to_seg', 'data16 mov %edx, %fs', 2, 0, 'mov_fs_edx', 'relative'],
    ['mov_to_seg', 'mov %ebx, %gs', 3, 0, 'emulate', 'relative'],
    ['mov_to_seg', 'mov %eax, %ss', 3, 0, 'emulate', 'relative'],
    ['mov_to_seg', 'mov 4(%eax), %ds', 2, 0, 'emulate', 'relative'],
    ['rdtsc', 'rdtsc', 4, absolute, 'emulate_rdtsc', 'absolute'],
    ['rdtsc', 'rdtsc', 3, 0, 'emulate_rdtsc', 'relative'],
    ['lidt', 'lidt (%eax)', 3, absolute, 'emulate', 'absolute'],
    ['entry_int80', 'int $0x80', 4, absolute, 'entry_int80', 'absolute'],
    ['int', 'int $0x80', 3, 0, 'emulate', 'relative'],
    ['entry_sysenter', 'sysenter', 4, absolute, 'entry_sysenter', 'absolute'],
    ['mmio_read', 'movl (%ecx), %eax', 3, 0, 'emulate', 'relative'],
  ] as const)('%s: %s', (kind, instruction, prefixes, flags, entry, form) => {
    expect(choose({ kind, instruction, prefixes, flags })).toEqual({ entry, form });
  });

  test('an unknown target is refused by name', () => {
    expect(() => burnTarget('vmware')).toThrow(/there is no target "vmware"/);
    expect(() => burnTarget('toString')).toThrow(InputError);
  });
});

describe('burn', () => {
  test('changes slots and nothing else of what is loaded', () => {
    const burned = burn(image, HOSTED);
    const inSlot = new Set(
      sites.flatMap((site) => Array.from(site.original, (_, index) => site.offset + index)),
    );
    for (let offset = 64; offset < image.length; offset++)
      if (!inSlot.has(offset) && burned[offset] !== image[offset]) expect.fail(`byte ${offset} changed`);
    for (const site of sites) {
      const slot = burned.subarray(site.offset, site.offset + site.length);
      const { entry, form } = selectSubstitution(site, BURN_TARGETS.hosted);
      expect(decodeCall(slot, site.address).target).toBe(
        form === 'absolute' ? entryPointerAddress(entry) : entryAddress(entry),
      );
    }
  });

  test('leaves its input alone', () => {
    const before = new Uint8Array(image);
    const buffer = Buffer.from(image);
    burn(buffer, HOSTED);
    expect(new Uint8Array(buffer)).toEqual(before);
  });

  test('what is left out keeps its bytes, and the patch table says so', () => {
    const burned = burn(image, { ...HOSTED, domains: ['cpu'] });
    const table = readPatchTable(parseElf(burned));
    expect(table).toHaveLength(FIXTURE_SITES.length + 1);
    sites.forEach((site, index) => {
      const slot = burned.subarray(site.offset, site.offset + site.length);
      expect(table[index]).toMatchObject({
        address: site.address,
        length: site.length,
        original: site.original,
      });
      expect(table[index]!.entry === PATCH_NOT_BURNED).toBe(site.domain !== 'cpu');
      expect(Buffer.from(slot).equals(site.original)).toBe(site.domain !== 'cpu');
    });
  });

  test('says what it did', () => {
    expect(readBurnInfo(parseElf(image))).toBeUndefined();
    expect(
      readBurnInfo(parseElf(burn(image, { ...HOSTED, domains: ['cpu', 'entry'], keep: 'copy' }))),
    ).toMatchObject({
      target: 'hosted',
      domains: ['cpu', 'entry'],
      keep: 'copy',
      originalSize: image.length,
    });
  });

  test.each([
    ['twice', () => burn(burn(image, HOSTED), HOSTED), /already burned for hosted/],
    ['without cpu', () => burn(image, { ...HOSTED, domains: ['portio'] }), /cpu cannot be left out/],
    ['for nobody', () => burn(image, { ...HOSTED, target: 'none' }), /there is no target "none"/],
    ['no kernel', () => burn(new Uint8Array(10), HOSTED), /not an ELF file/],
  ])('%s: refused', (_name, body, message) => {
    expect(body).toThrow(message);
    expect(body).toThrow(InputError);
  });
});

describe('unburn', () => {
  test('gives back every byte, whatever was burned', () => {
    fc.assert(
      fc.property(
        fc.subarray(ALL.filter((name) => name !== 'cpu')),
        fc.constantFrom('table' as const, 'copy' as const),
        fc.uint8Array({ maxLength: 100 }),
        (domains, keep, wedge) => {
          const burned = burn(image, { target: 'hosted', domains: ['cpu', ...domains], keep, wedge });
          expect(Buffer.compare(unburn(burned), image)).toBe(0);
        },
      ),
    );
  });

  test('what was not burned is refused', () => {
    expect(() => unburn(image)).toThrow(/not burned/);
  });

  test('a change since is noticed', () => {
    const burned = burn(image, HOSTED);
    burned[sites[0]!.offset - 1]! ^= 1;
    expect(() => unburn(burned)).toThrow(/changed after burning/);
  });

  test('damaged files are refused, or unburned rightly where the damage does not matter', () => {
    for (const keep of ['table', 'copy'] as const) {
      const burned = burn(image, { ...HOSTED, keep });
      fc.assert(
        fc.property(
          fc.array(
            fc.tuple(fc.integer({ min: 0, max: burned.length - 1 }), fc.integer({ min: 0, max: 255 })),
            { minLength: 1, maxLength: 5 },
          ),
          (changes) => {
            const changed = new Uint8Array(burned);
            for (const [offset, value] of changes) changed[offset] = value;
            try {
              expect(Buffer.compare(unburn(changed), image)).toBe(0);
            } catch (error) {
              if (!(error instanceof InputError)) throw error;
            }
          },
        ),
        { numRuns: 300 },
      );
      for (let length = 0; length < burned.length; length += 101)
        expect(() => unburn(burned.subarray(0, length))).toThrow(InputError);
    }
  });
});
