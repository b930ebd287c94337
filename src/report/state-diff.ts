/** In what two machine states differ. */

import { BLOCK_SIZE, PAGE_SIZE, type Ram } from '../machine/ram.ts';
import type { Machine } from '../machine/state.ts';
import { type GuestPhysical, guestPhysical } from '../x86/address.ts';
import { type Json, toJson } from './machine-state.ts';
import { formatTable, plural } from './table.ts';

export interface FieldDifference {
  /** `cpu.gpr[0]` */
  readonly field: string;
  readonly first: Json;
  readonly second: Json;
}

export interface StateDifference {
  readonly fields: readonly FieldDifference[];
  /** Sites that one has and the other has not, or not so. */
  readonly sites: number;
  readonly ram: {
    readonly pages: number;
    /** Guest-physical address of the first byte that differs; null if none does. */
    readonly first: number | null;
  };
}

const isBranch = (value: Json): value is readonly Json[] | { readonly [field: string]: Json } =>
  typeof value === 'object';

/** The leaves in which two values of one shape differ. */
function differences(field: string, first: Json, second: Json): FieldDifference[] {
  if (!isBranch(first) || !isBranch(second)) return first === second ? [] : [{ field, first, second }];
  const name = (key: string): string =>
    Array.isArray(first) ? `${field}[${key}]` : field === '' ? key : `${field}.${key}`;
  const others = second as { readonly [key: string]: Json };
  return Object.entries(first).flatMap(([key, value]) => differences(name(key), value, others[key]!));
}

/** Which pages hold something else; RAM that only one of them has counts too. */
function ramDifference(a: Ram, b: Ram): { pages: number; first: GuestPhysical | null } {
  let pages = Math.abs(a.size - b.size) / PAGE_SIZE;
  const common = Math.min(a.size, b.size);
  let first = pages === 0 ? null : guestPhysical(common);
  let found = false;
  const [left, right] = [new Uint8Array(BLOCK_SIZE), new Uint8Array(BLOCK_SIZE)];
  for (let start = 0; start < common; start += BLOCK_SIZE) {
    const size = Math.min(BLOCK_SIZE, common - start);
    a.read(guestPhysical(start), left.subarray(0, size));
    b.read(guestPhysical(start), right.subarray(0, size));
    if (Buffer.compare(left.subarray(0, size), right.subarray(0, size)) === 0) continue;
    for (let page = 0; page < size; page += PAGE_SIZE) {
      const mine = left.subarray(page, page + PAGE_SIZE);
      const other = right.subarray(page, page + PAGE_SIZE);
      if (Buffer.compare(mine, other) === 0) continue;
      pages++;
      if (found) continue;
      found = true;
      first = guestPhysical(start + page + mine.findIndex((value, index) => value !== other[index]));
    }
  }
  return { pages, first };
}

function siteDifference(a: Machine, b: Machine): number {
  const words = ({ sites }: Machine) => new Set(sites.map((site) => JSON.stringify(toJson(site))));
  const [first, second] = [words(a), words(b)];
  const lacking = (from: Set<string>, other: Set<string>) =>
    [...from].filter((site) => !other.has(site)).length;
  return Math.max(lacking(first, second), lacking(second, first));
}

export const stateDifference = (a: Machine, b: Machine): StateDifference => ({
  fields: differences('', toJson(a.state), toJson(b.state)),
  sites: siteDifference(a, b),
  ram: ramDifference(a.ram, b.ram),
});

/** Characters of a value, such as a device's memory, that are shown. */
const SHOWN = 40;

const shown = (value: Json): string => {
  const text = typeof value === 'number' ? `0x${value.toString(16)}` : String(value);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}...` : text;
};

export function formatDifference(first: string, second: string, report: StateDifference): string {
  const { fields, sites, ram } = report;
  const table = formatTable(
    [
      { title: 'field', align: 'left' },
      { title: first, align: 'left' },
      { title: second, align: 'left' },
    ],
    fields.map((row) => [row.field, shown(row.first), shown(row.second)]),
  );
  const where = ram.first === null ? '' : `, the first at 0x${ram.first.toString(16).padStart(8, '0')}`;
  const text = `${plural(fields.length, 'field')}, ${plural(sites, 'site')} and ${plural(ram.pages, 'page')} of RAM differ${where}\n`;
  return fields.length === 0 ? text : `${table}\n\n${text}`;
}
