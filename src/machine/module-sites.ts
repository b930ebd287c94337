/**
 * The sites of the modules that a stopped Linux has loaded while nobody was told
 * of them, found in its memory. A module that was built by the toolchain has its
 * records there; the code of another is disassembled, and what would silently do
 * something else outside of ring 0 becomes a site that traps: as a wedge does
 * it when it is told of a module (wedge/run/modules.c).
 */

import { formatAddress } from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';
import { discoverIn } from '../sites/discovery.ts';
import { findCopies, findSites, type Piece, pieceHolds } from '../sites/found.ts';
import {
  type OwnedPatchEntry,
  PATCH_NOT_BURNED,
  PATCH_TRAPS,
  type PatchEntry,
  patchEntry,
} from '../sites/patch-table.ts';
import { silent } from '../substitution/burn-binary.ts';
import { type GuestVirtual, guestVirtual } from '../x86/address.ts';
import {
  functionsOf,
  type LoadedModule,
  loadedModules,
  type ModuleMemory,
  type Stopped,
  throughKernelTables,
} from './linux-modules.ts';
import { readVirtual } from './paging.ts';

/** In an owner, for sites of initialization code, which goes before the rest (wedge/run/modules.c). */
const OWNER_INIT = 1;

/** More bytes than all modules have, or the code of one that is disassembled. */
const MOST_BYTES = 2 ** 25;
const MOST_CODE = 2 ** 22;
/** More sites than any target has room for. */
const MOST_SITES = 2 ** 14;

const UNLOAD = 'unload it first';

interface Contents {
  readonly code: Piece;
  readonly constants: Piece;
}

/** @throws InputError if some of it is not mapped */
function contentsOf(machine: Stopped, { address, codeSize, constantSize }: ModuleMemory): Contents {
  const bytes = readVirtual(machine, address, constantSize);
  if (!bytes) throw new InputError(`not all of its memory at ${formatAddress(address)} is there`, UNLOAD);
  return {
    code: { address, bytes: bytes.subarray(0, codeSize) },
    constants: { address: guestVirtual(address + codeSize), bytes: bytes.subarray(codeSize) },
  };
}

/**
 * Of code that was not built by the toolchain, or has no sites.
 * @throws InputError if some of it cannot be told from what is no code
 */
function disassembled(machine: Stopped, module: LoadedModule, { address, bytes }: Piece): PatchEntry[] {
  if (module.init) throw new InputError('it has no site records, and is just being initialized', 'try again');
  const refused = (why: string): InputError => new InputError(`it has no site records, and ${why}`, UNLOAD);
  if (bytes.length > MOST_CODE) throw refused(`${bytes.length} bytes of code`);
  const functions = functionsOf(machine, module);
  if (functions.length === 0) throw refused('nothing says where its functions are');
  const starts = functions.flatMap((one) => [one.address, one.address + one.size]);
  const { sites, unproven } = discoverIn(
    [{ address, bytes, name: '', offset: 0 }],
    starts.map((start) => ({ address: start, name: '' })),
    MOST_SITES,
  );
  // Between sections, and behind the last one, there are zeros.
  const lost = unproven.find(({ address: start, length }) =>
    bytes.subarray(start - address, start - address + length).some((byte) => byte !== 0),
  );
  if (lost) throw refused(`what lies at ${formatAddress(lost.address)} may be code or not`);
  return sites.filter(silent).map((site) => patchEntry(site, PATCH_TRAPS));
}

/** @throws InputError if they cannot be told */
function sitesOf(machine: Stopped, module: LoadedModule): OwnedPatchEntry[] {
  const { code, constants } = contentsOf(machine, module.core);
  const inits = module.init ? [contentsOf(machine, module.init).code] : [];
  const recorded = findSites(constants, [code, ...inits], MOST_SITES);
  const found = [...recorded, ...[code, ...inits].flatMap((piece) => findCopies(piece, recorded))];
  const entries =
    found.length > 0
      ? found.map((site) => patchEntry(site, PATCH_NOT_BURNED))
      : disassembled(machine, module, code);
  return entries.map((entry) => ({
    ...entry,
    owner: module.address + (pieceHolds(code, entry.address, entry.length) ? 0 : OWNER_INIT),
  }));
}

/** @throws InputError if one lies in another */
function checkApart(sites: readonly OwnedPatchEntry[], nameOf: (owner: number) => string): void {
  sites.forEach((site, index) => {
    const before = sites[index - 1];
    if (before && before.address + before.length > site.address)
      throw new InputError(
        `${nameOf(site.owner)} has a site at ${formatAddress(site.address)}, inside one of ${nameOf(before.owner)}`,
      );
  });
}

const byAddress = (a: OwnedPatchEntry, b: OwnedPatchEntry): number => a.address - b.address;

/**
 * By address.
 * @param list guest-virtual address of Linux' list of modules
 * @param kernel the sites of the kernel itself
 * @throws InputError with a module's name if its sites cannot be told
 */
export function moduleSites(
  stopped: Stopped,
  list: GuestVirtual,
  kernel: readonly OwnedPatchEntry[],
): OwnedPatchEntry[] {
  const machine = throughKernelTables(stopped, list);
  const modules = loadedModules(machine, list);
  const bytes = modules.reduce((sum, { core, init }) => sum + core.size + (init?.size ?? 0), 0);
  if (bytes > MOST_BYTES) throw new InputError(`the guest's modules have ${bytes} bytes, more than any have`);
  const sites = modules.flatMap((module) => {
    try {
      return sitesOf(machine, module);
    } catch (error) {
      if (error instanceof InputError)
        throw new InputError(`module ${module.name}: ${error.message}`, error.advice);
      throw error;
    }
  });
  const names = new Map<number, string>(modules.map(({ name, address }) => [address, `module ${name}`]));
  checkApart(
    [...kernel, ...sites].sort(byAddress),
    (owner) => names.get(owner - (owner % 2)) ?? 'the kernel',
  );
  return sites.sort(byAddress);
}
