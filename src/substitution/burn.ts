/** Burning: substitutes the sites of a kernel for a target. Bytes to bytes. */

import { appendSections, headerBytes } from '../elf/append.ts';
import { parseElf } from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';
import { readAllSites } from '../sites/embedded.ts';
import { encodePatchTable, PATCH_NOT_BURNED, patchEntry } from '../sites/patch-table.ts';
import type { DomainName, SiteKindName } from '../x86/site-kinds.ts';
import { BURN_SECTIONS, digestOf, encodeBurnInfo, type Keep, readBurnInfo } from './burn-info.ts';
import { burnTarget, selectSubstitution, substitutionTemplate } from './select.ts';
import { instantiate } from './template.ts';
import { checkPlaces } from './unburn.ts';

export interface BurnChoice {
  readonly target: string;
  /** Domains whose sites are substituted; the sites of others stay and trap. */
  readonly domains: readonly DomainName[];
  readonly keep: Keep;
  /** Kinds whose sites stay nevertheless and trap: to see what their substitutions are worth. */
  readonly spared?: ReadonlySet<SiteKindName> | undefined;
  /** Sites call the generic emulator, which counts them, wherever it can find out which one called. */
  readonly counted?: boolean | undefined;
}

export interface BurnOptions extends BurnChoice {
  readonly wedge: Uint8Array;
}

/**
 * Checks the image and chooses its substitutions; what comes back adds the
 * wedge, which takes long to build if it has to be, and gives the burned image.
 * @throws InputError if the image is no annotated kernel of the target's class,
 *   is burned already, or domain `cpu` is left out.
 */
export function prepareBurn(image: Uint8Array, options: BurnChoice): (wedge: Uint8Array) => Uint8Array {
  const target = burnTarget(options.target);
  if (!options.domains.includes('cpu'))
    throw new InputError('domain cpu cannot be left out', 'add it to --domains');
  const elf = parseElf(image);
  const before = readBurnInfo(elf);
  if (before) throw new InputError(`already burned for ${before.target}`, 'unburn it first');
  if (elf.class !== target.class)
    throw new InputError(`a ${elf.class}-bit kernel; ${options.target} takes ${target.class}-bit ones`);

  const sites = readAllSites(elf);
  checkPlaces(elf, sites);
  const burned = sites.map((site) => {
    const stays = !options.domains.includes(site.domain) || options.spared?.has(site.kind);
    if (stays || target.native.includes(site.domain)) return { entry: patchEntry(site, PATCH_NOT_BURNED) };
    const substitution = selectSubstitution(site, target, options.counted);
    const template = substitutionTemplate(substitution, site.length, target);
    return {
      entry: patchEntry(site, target.entryIndex(substitution.entry)),
      slot: { offset: site.offset, bytes: instantiate(template, site.address) },
    };
  });

  const info = encodeBurnInfo({
    target: options.target,
    domains: options.domains,
    keep: options.keep,
    originalSize: image.length,
    originalHeader: headerBytes(elf),
    digest: digestOf(image),
  });
  const table = encodePatchTable(burned.map(({ entry }) => entry));
  return (wedge) => {
    const out = appendSections(elf, [
      { name: BURN_SECTIONS.info, bytes: info },
      { name: BURN_SECTIONS.patch, bytes: table },
      { name: BURN_SECTIONS.wedge, bytes: wedge },
      ...(options.keep === 'copy' ? [{ name: BURN_SECTIONS.copy, bytes: image }] : []),
    ]);
    for (const { slot } of burned) if (slot) out.set(slot.bytes, slot.offset);
    return out;
  };
}

/** The burned image. @throws InputError as `prepareBurn`. */
export const burn = (image: Uint8Array, options: BurnOptions): Uint8Array =>
  prepareBurn(image, options)(options.wedge);
