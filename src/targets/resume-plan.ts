/** What a wedge takes up a guest from: RAM in chunks, without the pages that are zero. */

import type { BootChunk, BootPlan } from '../machine/boot-plan.ts';
import type { RamSource } from '../machine/state.ts';
import { guestPhysical } from '../x86/address.ts';

const PAGE = 4096;
/** Bytes that are read at once. */
const PIECE = 256 * PAGE;

const ZERO = Buffer.alloc(PAGE);

/** RAM's pages that are not zero, in chunks of whole pages that do not touch. @throws InputError as the source */
export function ramChunks(ram: RamSource): BootChunk[] {
  const chunks: BootChunk[] = [];
  for (let start = 0; start < ram.size; start += PIECE) {
    const piece = Buffer.allocUnsafeSlow(Math.min(PIECE, ram.size - start));
    ram.read(guestPhysical(start), piece);
    let from = -1;
    for (let at = 0; at <= piece.length; at += PAGE) {
      const used = at < piece.length && piece.compare(ZERO, 0, PAGE, at, at + PAGE) !== 0;
      if (used && from < 0) from = at;
      if (used || from < 0) continue;
      chunks.push({ address: guestPhysical(start + from), bytes: piece.subarray(from, at) });
      from = -1;
    }
  }
  return chunks;
}

/** A plan without a beginning: the machine state says where the guest stands. */
export const resumePlan = (ram: RamSource): BootPlan => ({
  entry: guestPhysical(0),
  eax: 0,
  ebx: 0,
  esi: 0,
  esp: guestPhysical(0),
  chunks: ramChunks(ram),
});
