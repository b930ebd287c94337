/** Unburning: the kernel as it was before burning. Bytes to bytes. */

import { removeAppended } from '../elf/append.ts';
import { type ElfImage, findSection, formatAddress, offsetAt, parseElf, sectionBytes } from '../elf/image.ts';
import { InputError } from '../elf/input-error.ts';
import { PATCH_COPY } from '../sites/patch-table.ts';
import { BURN_SECTIONS, type BurnInfo, digestOf, readBurnInfo, readPatchTable } from './burn-info.ts';

/**
 * Burning goes by a site's place in the file, unburning by its address.
 * @throws InputError if that leads elsewhere
 */
export function checkPlaces(
  elf: ElfImage,
  sites: readonly { readonly address: number; readonly offset: number; readonly length: number }[],
): void {
  const wrong = sites.find(({ address, offset, length }) => offsetAt(elf, address, length) !== offset);
  if (wrong)
    throw new InputError(
      `another section of the kernel has the address of the site at ${formatAddress(wrong.address)} too`,
    );
}

/**
 * The image as it was before `burn`, byte for byte.
 * @throws InputError if it is not burned, or was changed since so that the original cannot be had.
 */
export function unburn(image: Uint8Array): Uint8Array {
  const elf = parseElf(image);
  const info = readBurnInfo(elf);
  if (!info) throw new InputError('not burned: there is nothing to take back');
  const original = info.keep === 'copy' ? readCopy(elf) : revert(elf, info);
  if (!Buffer.from(digestOf(original)).equals(info.digest))
    throw new InputError('the file was changed after burning', 'take the kernel that it was burned from');
  return original;
}

function readCopy(elf: ElfImage): Uint8Array {
  const section = findSection(elf, BURN_SECTIONS.copy);
  if (!section) throw new InputError(`section ${BURN_SECTIONS.copy} is missing`);
  return new Uint8Array(sectionBytes(elf, section));
}

function revert(elf: ElfImage, info: BurnInfo): Uint8Array {
  const out = removeAppended(elf.bytes, info.originalSize, info.originalHeader);
  for (const { address, length, entry, original } of readPatchTable(elf)) {
    if (entry === PATCH_COPY) continue;
    const offset = offsetAt(elf, address, length);
    if (offset === undefined || offset + length > out.length)
      throw new InputError(`the patch table's site at ${formatAddress(address)} is not in the kernel`);
    out.set(original, offset);
  }
  return out;
}
