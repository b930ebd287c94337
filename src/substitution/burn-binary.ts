/**
 * Burning a kernel that was never annotated. There is no room for calls: an
 * instruction that would silently do something else at lower privilege gets a
 * first byte that traps, and keeps its length; what traps by itself stays. The
 * wedge emulates the original of either. Bytes to bytes.
 */

import { appendSections, headerBytes } from '../elf/append.ts';
import { type ElfImage, formatAddress, parseElf } from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';
import { type Alternative, readAlternatives } from '../sites/alternatives.ts';
import { type AnnouncementPlace, findAnnouncements } from '../sites/announcements.ts';
import { type Discovery, discoverSites } from '../sites/discovery.ts';
import {
  encodePatchTable,
  PATCH_COPY,
  PATCH_NOT_BURNED,
  PATCH_TRAPS,
  type PatchEntry,
  patchEntry,
  TRAPPING_BYTE,
} from '../sites/patch-table.ts';
import type { Site } from '../sites/site.ts';
import { guestVirtual } from '../x86/address.ts';
import { DOMAINS, SITE_KINDS, type SiteKindName } from '../x86/site-kinds.ts';
import { SITE_FLAGS } from '../x86/site-record.ts';
import { BURN_SECTIONS, digestOf, encodeBurnInfo, type Keep, readBurnInfo } from './burn-info.ts';
import { burnTarget } from './select.ts';
import { checkPlaces } from './unburn.ts';

/**
 * What does not fault in rings 1 to 3, and does or reads something else there
 * (SDM vol. 3, 2.8 and 5.9). Under UMIP sgdt and its like would trap, but hosts
 * emulate them then. Not here: rdtsc, which reads the host's counter as the
 * guest's own would; arpl, which does the same everywhere; int, which no gate
 * of the host lets through but the one for system calls, which is watched.
 */
export const SILENT_KINDS: ReadonlySet<SiteKindName> = new Set([
  'pushf',
  'popf',
  'iret',
  'smsw',
  'sgdt',
  'sidt',
  'sldt',
  'str',
  'cpuid',
  'xgetbv',
  'mov_to_seg',
  'mov_from_seg',
  'push_seg',
  'pop_seg',
  'load_far_pointer',
  'far_call',
  'far_jmp',
  'far_ret',
  'verr',
  'verw',
  'lar',
  'lsl',
]);

export interface BinaryBurnChoice {
  readonly target: string;
  readonly keep: Keep;
  /** The file as it was given, which may have the image compressed in it. */
  readonly file: Uint8Array;
}

export const silent = ({ kind }: Pick<Site, 'kind'>): boolean => SILENT_KINDS.has(kind);

/** Where the kernel copies trapping instructions to. */
function copiesOf(site: Site, alternatives: readonly Alternative[]): PatchEntry[] {
  return alternatives
    .filter(
      ({ replacement, replacementLength }) =>
        site.address >= replacement && site.address + site.length <= replacement + replacementLength,
    )
    .map(({ target, replacement }) => ({
      ...patchEntry(site, PATCH_COPY),
      address: guestVirtual(target + site.address - replacement),
    }));
}

/** Nothing was widened for a call, so that burning a running guest again must not put one there. */
const leftEntry = (site: Site): PatchEntry => ({
  ...patchEntry(site, PATCH_NOT_BURNED),
  flags: SITE_FLAGS.interiorBoundary,
});

/** The push or return at which the kernel tells of a module. */
const announcementEntry = ({ kind, address, original }: AnnouncementPlace): PatchEntry => ({
  address,
  length: original.length,
  widening: 0,
  domain: DOMAINS.cpu,
  kind: SITE_KINDS[kind].id,
  flags: 0,
  entry: PATCH_TRAPS,
  original,
});

const sameSite = (a: PatchEntry, b: PatchEntry): boolean =>
  a.address === b.address && Buffer.from(a.original).equals(b.original);

const overlap = (a: PatchEntry, b: PatchEntry): boolean =>
  a.address < b.address + b.length && b.address < a.address + a.length;

/**
 * The patch table's entries, by address. What is in the file where a copy goes,
 * and traps by itself, needs none.
 * @throws InputError if two different originals could stand at one address
 */
function entriesOf(
  elf: ElfImage,
  sites: readonly Site[],
  places: readonly AnnouncementPlace[],
): PatchEntry[] {
  const alternatives = readAlternatives(elf);
  const entries = sites.flatMap((site) =>
    silent(site) ? [patchEntry(site, PATCH_TRAPS), ...copiesOf(site, alternatives)] : [leftEntry(site)],
  );
  entries.push(...places.map(announcementEntry));
  entries.sort((a, b) => a.address - b.address || b.entry - a.entry);
  const kept: PatchEntry[] = [];
  for (const entry of entries) {
    const last = kept.at(-1);
    if (!last || !overlap(last, entry)) kept.push(entry);
    else if (last.entry === PATCH_NOT_BURNED && entry.entry === PATCH_COPY) kept.splice(-1, 1, entry);
    else if (entry.entry !== PATCH_NOT_BURNED && !sameSite(last, entry))
      throw new InputError(
        `the kernel copies another sensitive instruction over the one at ${formatAddress(entry.address)}`,
      );
  }
  return kept;
}

export interface BinaryBurn {
  readonly discovery: Discovery;
  /** Functions that should announce modules, and have no place for it. */
  readonly missed: readonly string[];
  /** The burned image, given the wedge. */
  finish(wedge: Uint8Array): Uint8Array;
}

/**
 * @param image a linked kernel
 * @throws InputError if it is none of the target's class, says nowhere where its
 *   functions start, or is burned or annotated already
 */
export function prepareBinaryBurn(image: Uint8Array, { target, keep, file }: BinaryBurnChoice): BinaryBurn {
  burnTarget(target);
  const elf = parseElf(image);
  const before = readBurnInfo(elf);
  if (before) throw new InputError(`already burned for ${before.target}`, 'unburn it first');
  const discovery = discoverSites(elf);
  const original = keep === 'copy' ? file : image;
  const info = encodeBurnInfo({
    target,
    domains: ['cpu'],
    keep,
    originalSize: original.length,
    originalHeader: headerBytes(elf),
    digest: digestOf(original),
  });
  checkPlaces(elf, discovery.sites);
  const { places, missed } = findAnnouncements(elf, discovery.functions);
  const table = encodePatchTable(entriesOf(elf, discovery.sites, places));
  const changed = [...discovery.sites.filter(silent), ...places];
  return {
    discovery,
    missed,
    finish(wedge) {
      const out = appendSections(elf, [
        { name: BURN_SECTIONS.info, bytes: info },
        { name: BURN_SECTIONS.patch, bytes: table },
        { name: BURN_SECTIONS.wedge, bytes: wedge },
        ...(keep === 'copy' ? [{ name: BURN_SECTIONS.copy, bytes: file }] : []),
      ]);
      for (const { offset } of changed) out[offset] = TRAPPING_BYTE;
      return out;
    },
  };
}
