/** Counting things by a property. */

export interface Count {
  readonly name: string;
  readonly count: number;
}

/** How many items have each name, most frequent first, then by name. */
export function countBy<T>(items: readonly T[], nameOf: (item: T) => string): Count[] {
  const counts = new Map<string, number>();
  for (const item of items) counts.set(nameOf(item), (counts.get(nameOf(item)) ?? 0) + 1);
  return [...counts]
    .map(([name, count]) => ({ name, count }))
    .sort((a, b) => b.count - a.count || (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
}
