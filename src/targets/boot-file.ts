/**
 * The boot file: a prepared machine, as a wedge takes it from its launcher.
 * Pure: plan in, bytes out.
 */

import { viewOf, writeStruct } from '../elf/codec.ts';
import type { BootPlan } from '../machine/boot-plan.ts';
import type { RamInFile } from '../machine/ram.ts';
import { MACHINE_STATE, PROCESSORS, type ProcessorName } from '../machine/state.ts';
import { encodePatchTable, PATCH_ENTRY, PATCH_TABLE_HEADER, type PatchEntry } from '../sites/patch-table.ts';
import { domainMask } from '../substitution/burn-info.ts';
import type { DomainName } from '../x86/site-kinds.ts';
import {
  AWAITED_SITES,
  BOOT_CHUNK,
  BOOT_HEADER,
  BOOT_MAGIC,
  BOOT_VERSION,
  RAM_COMES,
} from './boot-layout.ts';

export interface BootFileOptions {
  /** A guest that goes on: its machine state and, behind it, its sites. */
  readonly resumed?: Uint8Array;
  readonly plan: BootPlan;
  /** Bytes of guest RAM. */
  readonly ramSize: number;
  /** Chunks that lie in RAM_FD, instead of the plan's. */
  readonly ramApart?: RamInFile['pieces'] | undefined;
  /** Of a guest that starts. */
  readonly sites: readonly PatchEntry[];
  /** Guest-virtual minus guest-physical address of the kernel, as linked. */
  readonly linkOffset: number;
  /** Domains that modules are to be burned for. */
  readonly domains: readonly DomainName[];
  /** Bytes of the disk; undefined: no disk. */
  readonly diskSize?: number | undefined;
  /** Console text that means a panic; empty: none. */
  readonly panicPattern: string;
  /** Whether the console's input has commands for the wedge among it (command.ts). */
  readonly commands: boolean;
  /** Whether Ctrl-A x on the console ends the run. */
  readonly escape: boolean;
  /** What the guest may know of its processor; as the host, if not given. */
  readonly processor?: ProcessorName | undefined;
  /** Whether this is only for a guest that comes later, with another boot file in this one's place. */
  readonly awaited?: boolean;
  /** COUNT: what is counted. */
  readonly counts?: number | undefined;
  /** Each chunk's data begins at a multiple of this many bytes, in the file. */
  readonly alignment?: number;
}

const PATTERN_SIZE = 64;

/** @throws RangeError if the panic pattern is too long. */
export function bootFile(options: BootFileOptions): Uint8Array {
  const { plan, resumed, alignment = 1 } = options;
  const sites =
    resumed?.subarray(MACHINE_STATE.size) ??
    encodePatchTable(options.sites).subarray(PATCH_TABLE_HEADER.size);
  const eight = (offset: number): number => Math.ceil(offset / 8) * 8;
  const align = (offset: number): number => Math.ceil(offset / alignment) * alignment;
  const pattern = new Uint8Array(PATTERN_SIZE);
  pattern.set(Buffer.from(options.panicPattern, 'latin1'));
  const count = options.ramApart?.length ?? plan.chunks.length;
  const chunksOffset = BOOT_HEADER.size;
  const sitesOffset = chunksOffset + count * BOOT_CHUNK.size;
  const stateOffset = eight(sitesOffset + sites.length);
  const dataOffset = align(stateOffset + (resumed ? MACHINE_STATE.size : 0));
  const dataSize = plan.chunks.reduce((sum, chunk) => sum + align(chunk.bytes.length), 0);
  const out = new Uint8Array(dataOffset + dataSize);
  const view = viewOf(out);
  writeStruct(BOOT_HEADER, view, 0, {
    magic: BOOT_MAGIC,
    version: BOOT_VERSION,
    ram_size: options.ramSize,
    entry: plan.entry,
    eax: plan.eax,
    ebx: plan.ebx,
    esi: plan.esi,
    esp: plan.esp,
    chunk_count: count,
    site_count: options.awaited ? AWAITED_SITES : sites.length / PATCH_ENTRY.size,
    link_offset: options.linkOffset,
    domains: domainMask(options.domains),
    commands: options.commands ? 1 : 0,
    has_disk: options.diskSize === undefined ? 0 : 1,
    chunks_offset: chunksOffset,
    sites_offset: sitesOffset,
    disk_size: options.diskSize ?? 0,
    panic_pattern: pattern,
    escape: options.escape ? 1 : 0,
    features: new Uint8Array(Uint32Array.from(PROCESSORS[options.processor ?? 'host']).buffer),
    counts: options.counts ?? 0,
    state_offset: resumed ? stateOffset : 0,
    ram_comes: options.awaited ? RAM_COMES.AWAITED : options.ramApart ? RAM_COMES.APART : RAM_COMES.HERE,
    told_frame: 0,
    told_pages: 0,
  });
  let offset = dataOffset;
  plan.chunks.forEach((chunk, index) => {
    const record = { address: chunk.address, offset, length: chunk.bytes.length };
    writeStruct(BOOT_CHUNK, view, chunksOffset + index * BOOT_CHUNK.size, record);
    out.set(chunk.bytes, offset);
    offset += align(chunk.bytes.length);
  });
  options.ramApart?.forEach(({ start: address, size: length, offset: at }, index) => {
    writeStruct(BOOT_CHUNK, view, chunksOffset + index * BOOT_CHUNK.size, { address, offset: at, length });
  });
  out.set(sites, sitesOffset);
  if (resumed) out.set(resumed.subarray(0, MACHINE_STATE.size), stateOffset);
  return out;
}
