/** What a part of the benchmark is, and what it finds. */

/** A limit that is demanded, and one that is wanted; in the unit of the row. */
export interface Goal {
  readonly better: 'more' | 'less';
  /** Without it the row is reported only. */
  readonly must?: number;
  readonly aim: number;
}

/** How values are written: decimals by unit. */
export const UNIT_DECIMALS = {
  'MB/s': 1,
  '%': 2,
  s: 2,
  ms: 0,
  us: 2,
  million: 2,
  /** How many times as much as the plain peer. */
  ratio: 4,
  /** How many times faster than a peer. */
  times: 2,
  MB: 2,
  count: 0,
} as const satisfies Record<string, number>;

export type Unit = keyof typeof UNIT_DECIMALS;

export interface Row {
  readonly what: string;
  readonly value: number;
  readonly unit: Unit;
  readonly goal?: Goal;
}

/** Figures that rows were computed from, for those who want to see them all. */
export interface Figures {
  readonly title: string;
  readonly columns: readonly string[];
  /** The first cell names the line. */
  readonly lines: readonly (readonly (string | number | undefined)[])[];
}

export interface Result {
  readonly rows: readonly Row[];
  readonly figures?: Figures;
}

export interface Part {
  readonly name: string;
  /** One line for the help. */
  readonly what: string;
  /**
   * Measures. `folder` is for files that go away with the benchmark.
   * @throws InputError if something that it needs is missing
   */
  run(folder: string): Promise<Result>;
}

/** What became of a goal; undefined where there is none. */
export type Verdict = 'aim' | 'must' | 'missed' | 'below aim' | undefined;

export function verdict({ value, goal }: Row): Verdict {
  if (goal === undefined) return undefined;
  const reaches = (limit: number): boolean => (goal.better === 'more' ? value >= limit : value <= limit);
  if (reaches(goal.aim)) return 'aim';
  if (goal.must === undefined) return 'below aim';
  return reaches(goal.must) ? 'must' : 'missed';
}
