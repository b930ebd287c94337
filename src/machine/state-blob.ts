/** What a wedge tells and takes: `MACHINE_STATE`, and the sites behind it. */

import { InputError } from '../elf/input-error.ts';
import { decodeRecord, encodeRecord, type RecordOf } from '../elf/record.ts';
import { decodeEntries, encodeEntries, type OwnedPatchEntry, PATCH_ENTRY } from '../sites/patch-table.ts';
import { MACHINE_STATE, type Machine, STATE_MAGIC, STATE_VERSION } from './state.ts';

export type WithoutRam = Omit<Machine, 'ram'>;

/** How many sites are the kernel's; the others are its modules'. */
export const kernelSiteCount = (sites: readonly OwnedPatchEntry[]): number =>
  sites.filter(({ owner }) => owner === 0).length;

/**
 * The kernel's sites and, behind them, its modules'.
 * @throws InputError if one is out of order, too long or another's
 */
export function decodeSites(bytes: Uint8Array, kernel: number, modules: number): OwnedPatchEntry[] {
  if (bytes.length !== (kernel + modules) * PATCH_ENTRY.size)
    throw new InputError(`patch table: ${bytes.length} bytes for ${kernel} and ${modules} entries`);
  const border = kernel * PATCH_ENTRY.size;
  const sites = [
    ...decodeEntries(bytes.subarray(0, border), 0),
    ...decodeEntries(bytes.subarray(border), kernel),
  ];
  const wrong = sites.findIndex(({ owner }, index) => (owner === 0) !== index < kernel);
  if (wrong >= 0) throw new InputError(`patch entry ${wrong} is not where its owner's are`);
  return sites;
}

/** @throws InputError if it is of another version or not well-formed. */
export function decodeMachineState(bytes: Uint8Array): WithoutRam {
  const { magic, version, site_count, module_site_count, reserved, ...state } = decodeRecord(
    MACHINE_STATE,
    bytes,
    0,
    'the machine state',
  );
  if (magic !== STATE_MAGIC) throw new InputError('the machine state does not begin with its mark');
  if (version !== STATE_VERSION)
    throw new InputError(`the machine state has version ${version}, not ${STATE_VERSION}`);
  return { state, sites: decodeSites(bytes.subarray(MACHINE_STATE.size), site_count, module_site_count) };
}

export function encodeMachineState({ state, sites }: WithoutRam): Uint8Array {
  const site_count = kernelSiteCount(sites);
  const whole: RecordOf<typeof MACHINE_STATE> = {
    ...state,
    magic: STATE_MAGIC,
    version: STATE_VERSION,
    site_count,
    module_site_count: sites.length - site_count,
    reserved: 0,
  };
  return new Uint8Array(Buffer.concat([encodeRecord(MACHINE_STATE, whole), encodeEntries(sites)]));
}
