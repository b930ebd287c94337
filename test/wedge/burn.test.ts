/** The wedge's way of burning against TypeScript's: the same entries, the same bytes. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildKernel } from '../../guests/linux/kernel.ts';
import { parseElf } from '../../src/elf/image.ts';
import { readAllSites } from '../../src/sites/embedded.ts';
import {
  encodePatchTable,
  PATCH_NOT_BURNED,
  PATCH_TABLE_HEADER,
  patchEntry,
} from '../../src/sites/patch-table.ts';
import type { Site } from '../../src/sites/site.ts';
import { domainMask } from '../../src/substitution/burn-info.ts';
import { burnTarget, selectSubstitution, substitutionTemplate } from '../../src/substitution/select.ts';
import { instantiate } from '../../src/substitution/template.ts';
import { guestVirtual } from '../../src/x86/address.ts';
import { DOMAINS, type DomainName } from '../../src/x86/site-kinds.ts';
import { SITE_FLAGS } from '../../src/x86/site-record.ts';
import { FIXTURE_SITES, linkImage, linkVdso, sitesText } from '../sites/fixture.ts';
import { Harness } from './harness.ts';

const ALL = Object.keys(DOMAINS) as DomainName[];
const SLOT = 16;
const BUILD_LIMIT = 1_800_000;

/** Replay a failure with PREVIRT_SEED. */
const SEED = Number(process.env.PREVIRT_SEED ?? Date.now() % 2 ** 31);

let harness: Harness;

beforeAll(() => {
  harness = new Harness('burn', ['run/burn.c', 'core/string.c']);
});

afterAll(() => harness.remove());

interface Burned {
  readonly entry: number;
  readonly slot: string;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

function byWedge(sites: readonly Site[], domains: readonly DomainName[]): Burned[] {
  const mask = Buffer.alloc(4);
  mask.writeUInt32LE(domainMask(domains));
  const table = encodePatchTable(sites.map((site) => patchEntry(site, PATCH_NOT_BURNED)));
  const input = Buffer.concat([mask, table.subarray(PATCH_TABLE_HEADER.size)]);
  const output = execFileSync(harness.program, { input, maxBuffer: 2 ** 26 });
  return sites.map(({ length }, index) => {
    const at = index * (2 + SLOT);
    return { entry: output.readUInt16LE(at), slot: hex(output.subarray(at + 2, at + 2 + length)) };
  });
}

function byTypeScript(site: Site, domains: readonly DomainName[]): Burned {
  const target = burnTarget('hosted');
  if (!domains.includes(site.domain)) return { entry: PATCH_NOT_BURNED, slot: hex(site.original) };
  const substitution = selectSubstitution(site, target);
  const template = substitutionTemplate(substitution, site.length, target);
  return { entry: target.entryIndex(substitution.entry), slot: hex(instantiate(template, site.address)) };
}

function expectSame(sites: readonly Site[], domains: readonly DomainName[]): void {
  const wedge = byWedge(sites, domains);
  const differ = sites
    .map((site, index) => ({ site, wedge: wedge[index], typescript: byTypeScript(site, domains) }))
    .filter(({ wedge: w, typescript: t }) => w!.entry !== t.entry || w!.slot !== t.slot);
  expect(differ.slice(0, 3)).toEqual([]);
}

describe(`the wedge burns as TypeScript does (PREVIRT_SEED=${SEED})`, () => {
  const sites = readAllSites(parseElf(linkImage({ text: sitesText(FIXTURE_SITES), embedded: linkVdso() })));

  it('a site of every form, anywhere, in a slot of any length, by any domains', () => {
    const moved = fc
      .record({
        site: fc.constantFrom(...sites),
        address: fc.integer({ min: 0, max: 0xf4ff_ffe0 }),
        absolute: fc.boolean(),
        longer: fc.nat(9),
      })
      .map(({ site, address, absolute, longer }): Site => {
        const more = Math.min(longer, 15 - site.length);
        const least = absolute && site.length + more < 6 ? 1 : more;
        const original = new Uint8Array(site.length + least).fill(0x2e, 0, least);
        original.set(site.original, least);
        return {
          ...site,
          address: guestVirtual(address),
          length: original.length,
          widening: site.widening + least,
          flags: absolute ? site.flags | SITE_FLAGS.absolute : site.flags & ~SITE_FLAGS.absolute,
          original,
        };
      });
    fc.assert(
      fc.property(fc.array(moved, { minLength: 1, maxLength: 200 }), fc.subarray(ALL), (some, domains) =>
        expectSame(some, domains),
      ),
      { seed: SEED, numRuns: 50 },
    );
  });

  it(
    'all sites of Linux',
    async () => {
      const { vmlinux } = await buildKernel('annotated');
      const all = readAllSites(parseElf(new Uint8Array(readFileSync(vmlinux))));
      expect(all.length).toBeGreaterThan(5000);
      expectSame(all, ALL);
      expectSame(all, ['cpu']);
    },
    BUILD_LIMIT,
  );
});
